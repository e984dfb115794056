// CUDA on a CPU, for the kernels of `mixers/ops/kernels/cuda`: the threads of a block take turns, and what they give each
// other goes through memory. Compiled with KERNEL and KERNEL_FILE.

// Most of the time that compiling takes goes to headers, so there are few.
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <utility>

extern "C" float fabsf(float), sqrtf(float), fmaxf(float, float), fminf(float, float);

#define INSTRUCTIONS  // those below stand for instructions.cuh
#define INLINE inline
#define SHARED static
#define __global__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

typedef unsigned int word;
typedef unsigned short half;
struct alignas(16) uint4 {
    word x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    word x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct {
    int x;
} threadIdx, blockIdx, gridDim;

constexpr int SHARED_BYTES = 227 * 1024;
alignas(128) char memory[SHARED_BYTES];
extern char kept[SHARED_BYTES] __attribute__((alias("memory")));

// Threads

constexpr int STACK = 1 << 18, MOST_THREADS = 1024;  // bytes, and threads of a block

struct Thread {
    jmp_buf place;
    bool begun = false, done = false, waits = false;  // at __syncthreads
};

struct Barrier {
    int arrived = 0, round = 0;
};

static jmp_buf scheduler;  // jumps, unlike swapcontext, ask nothing of the system
static Thread threads[MOST_THREADS];
static int thread_count;
static Barrier warps[MOST_THREADS / 32], block;
static void body();

inline void meet(Barrier& barrier, int count) {
    const int round = barrier.round;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        barrier.round++;
    }
    while (barrier.round == round)
        if (!_setjmp(threads[threadIdx.x].place)) _longjmp(scheduler, 1);
}

inline void __syncthreads() {
    threads[threadIdx.x].waits = true;
    meet(block, thread_count);
    threads[threadIdx.x].waits = false;
}
inline void __syncwarp() { meet(warps[threadIdx.x / 32], 32); }

static void enter() {
    body();
    threads[threadIdx.x].done = true;
    _longjmp(scheduler, 1);
}

static void resume(Thread& thread) {
    if (_setjmp(scheduler)) return;
    if (thread.begun) _longjmp(thread.place, 1);
    thread.begun = true;
    ucontext_t context;
    getcontext(&context);
    static char* const stacks = (char*)malloc((size_t)MOST_THREADS * STACK);  // of all blocks, in turn
    context.uc_stack.ss_sp = stacks + (size_t)threadIdx.x * STACK;
    context.uc_stack.ss_size = STACK;
    makecontext(&context, enter, 0);
    setcontext(&context);
}

// Whether all threads come to their end: none waits for others that have come to theirs.
static bool run_block(int count) {
    thread_count = count;
    for (int i = 0; i < count; i++) threads[i] = Thread();
    for (int w = 0; w < count / 32; w++) warps[w] = Barrier();
    block = Barrier();
    for (bool left = true; left;) {
        const int round = block.round;
        bool moves = false;
        left = false;
        for (int w = 0; w < count / 32; w++) {
            const int warp = blockIdx.x % 2 ? count / 32 - 1 - w : w;
            for (bool runs = true; runs;) {  // as far ahead of the others as it may
                runs = false;
                for (int i = 32 * warp; i < 32 * warp + 32; i++)
                    if (!threads[i].done) {
                        threadIdx.x = i;
                        resume(threads[i]);
                        left = true;
                        moves |= threads[i].done || !threads[i].waits;
                        runs |= !threads[i].done && !threads[i].waits;
                    }
            }
        }
        if (left && !moves && round == block.round) return false;
    }
    return true;
}

// What the lanes of a warp give each other

template <class T>
struct Lanes {
    T of[32];
};

template <class T>
inline const Lanes<T>& gather_lanes(T mine) {
    static Lanes<T> shared[32][2];  // in turns: when a lane writes again, all have read what was there
    static bool turn[1024];
    Lanes<T>& lanes = shared[threadIdx.x / 32][turn[threadIdx.x] ^= 1];
    lanes.of[threadIdx.x % 32] = mine;
    __syncwarp();
    return lanes;
}

inline word __reduce_max_sync(word, word value) {
    word most = 0;
    for (word other : gather_lanes(value).of) most = other > most ? other : most;
    return most;
}

inline float __shfl_xor_sync(word, float value, int other) { return gather_lanes(value).of[threadIdx.x % 32 ^ other]; }

inline bool __any_sync(word mask, bool value) { return __reduce_max_sync(mask, value); }

inline float __shfl_sync(word, float value, int from) { return gather_lanes(value).of[from]; }

inline word atomicMax(word* target, word value) {
    const word before = *target;
    *target = value > before ? value : before;
    return before;
}

// Numbers

inline float __expf(float value) { return __builtin_expf(value); }
inline float __fdividef(float a, float b) { return fabsf(b) > 0x1p126f ? 0 * a : a / b; }

inline float square_root(float value) { return __builtin_sqrtf(value); }
inline float reciprocal(float value) { return 1 / value; }
inline float relu(float number) { return number < 0 ? 0 : number; }
inline float power(float exponent) { return __builtin_exp2f(exponent); }

inline void prefetch(const void*) {}

template <class T>
inline T __ldg(const T* pointer) {
    return *pointer;
}

template <class To, class From>
inline To bits(From from) {
    To to;
    static_assert(sizeof(To) == sizeof(From), "bits");
    memcpy(&to, &from, sizeof(to));
    return to;
}

inline float __uint_as_float(word value) { return bits<float>(value); }
inline word __float_as_uint(float value) { return bits<word>(value); }
inline int min(int a, int b) { return a < b ? a : b; }
inline word min(word a, word b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline word max(word a, word b) { return a > b ? a : b; }

inline float widen(half value) { return (float)bits<_Float16>(value); }
inline word pack(float low, float high) { return bits<half>((_Float16)low) | (word)bits<half>((_Float16)high) << 16; }

inline word rounded_bfloat16(float value) {  // to the nearest, ties to even
    const word all = bits<word>(value);
    return __builtin_isnan(value) ? 0x7fff : (all + 0x7fff + (all >> 16 & 1)) >> 16;
}

inline word pack_bfloat16(float low, float high) { return rounded_bfloat16(low) | rounded_bfloat16(high) << 16; }

// Tensor cores, by PTX's description of their operands

inline float part(word packed, int high) { return widen(high ? packed >> 16 : packed & 0xffff); }

template <int COUNT>
struct Operands {
    float a[2 * COUNT], b[COUNT];
};

template <class T>
inline void multiply(T** sums, uint4 a, word b0, word b1) {
    const word left[] = {a.x, a.y, a.z, a.w}, right[] = {b0, b1};
    Operands<4> own;
    for (int i = 0; i < 8; i++) own.a[i] = part(left[i / 2], i % 2);
    for (int i = 0; i < 4; i++) own.b[i] = part(right[i / 2], i % 2);
    const Lanes<Operands<4>>& lanes = gather_lanes(own);
    const int row = threadIdx.x % 32 / 4, column = 2 * (threadIdx.x % 4);
    for (int entry = 0; entry < 4; entry++) {
        float sum = *sums[entry];
        for (int k = 0; k < 16; k++)
            sum += lanes.of[4 * row + k % 8 / 2].a[4 * (k / 8) + 2 * (entry / 2) + k % 2] *
                   lanes.of[4 * (column + entry % 2) + k % 8 / 2].b[2 * (k / 8) + k % 2];
        *sums[entry] = sum;
    }
}

inline void multiply(float& sum_0, float& sum_1, float& sum_2, float& sum_3, uint4 a, word b0, word b1) {
    float* sums[] = {&sum_0, &sum_1, &sum_2, &sum_3};
    multiply(sums, a, b0, b1);
}

inline void multiply(word& sum_0, word& sum_1, uint4 a, word b0, word b1) {
    _Float16* sums[] = {(_Float16*)&sum_0, (_Float16*)&sum_0 + 1, (_Float16*)&sum_1, (_Float16*)&sum_1 + 1};
    multiply(sums, a, b0, b1);
}

inline void multiply_tf32(float (&sums)[4], uint4 a, word b0, word b1) {
    const word left[] = {a.x, a.y, a.z, a.w}, right[] = {b0, b1};
    Operands<2> own;
    for (int i = 0; i < 4; i++) own.a[i] = bits<float>(left[i] & 0xffffe000);
    for (int i = 0; i < 2; i++) own.b[i] = bits<float>(right[i] & 0xffffe000);
    const Lanes<Operands<2>>& lanes = gather_lanes(own);
    const int row = threadIdx.x % 32 / 4, column = 2 * (threadIdx.x % 4);
    for (int entry = 0; entry < 4; entry++)
        for (int k = 0; k < 8; k++)
            sums[entry] += lanes.of[4 * row + k % 4].a[2 * (k / 4) + entry / 2] *
                           lanes.of[4 * (column + entry % 2) + k % 4].b[k / 4];
}

// Two float16 at once

inline word add(word a, word b) { return pack(part(a, 0) + part(b, 0), part(a, 1) + part(b, 1)); }
inline word subtract(word a, word b) { return pack(part(a, 0) - part(b, 0), part(a, 1) - part(b, 1)); }
inline word opposite(word a) { return a ^ 0x80008000; }
inline word times(word a, word b) { return pack(part(a, 0) * part(b, 0), part(a, 1) * part(b, 1)); }
inline word times_and_add(word a, word b, word c) {
    return pack(__builtin_fmaf(part(a, 0), part(b, 0), part(c, 0)), __builtin_fmaf(part(a, 1), part(b, 1), part(c, 1)));
}

inline word shared_address(const void* pointer) { return (const char*)pointer - memory; }

inline void read_transposed(word* matrices, word address) {
    const Lanes<word>& rows = gather_lanes(address);
    const int row = 2 * (threadIdx.x % 4), column = threadIdx.x % 32 / 4;
    for (int matrix = 0; matrix < 4; matrix++) {
        half pair[2];
        for (int i = 0; i < 2; i++) memcpy(pair + i, memory + rows.of[8 * matrix + row + i] + 2 * column, 2);
        matrices[matrix] = pair[0] | (word)pair[1] << 16;
    }
}

// The kernel

#include KERNEL_FILE

static void** given;

template <class... A, size_t... I>
static void call(void (*kernel)(A...), std::index_sequence<I...>) {
    kernel(*(A*)given[I]...);
}

template <class... A>
static void call(void (*kernel)(A...)) {
    call(kernel, std::index_sequence_for<A...>());
}

static void body() { call(KERNEL); }

extern "C" int start_kernel(int blocks, int count, int shared, void** arguments) {
    given = arguments;
    gridDim.x = blocks;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        memset(memory, 0xff, sizeof(memory));  // as float16 it is not a number
        if (!run_block(count)) return -1;
        for (int i = shared; i < SHARED_BYTES; i++)
            if ((unsigned char)memory[i] != 0xff) return i;  // written beyond what the block was given
    }
    return 0;
}

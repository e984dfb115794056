// The Toeplitz product of whole sequences by transforms on tensor cores, and its gradients; `monarch.py` has the
// mathematics and starts these kernels. A sequence of P = ROWS COLUMNS tokens is a matrix (a, b) of its tokens
// COLUMNS a + b, and the frequency g + ROWS h stands at (g, h).
//
// A block of threads takes 64 columns: of 64 / COLUMNS sequences of one channel. A warp takes tiles of 16 rows g and all
// columns. From the matrix from the left on, a tile stays in registers: what a product of tensor cores gives has the
// layout that the next one takes. The last product, over all g, goes through shared memory.
//
// Compiled with ROWS, COLUMNS, NUMBER (0 float16, 1 bfloat16, 2 float32: of x, y and their gradients) and ALIGNED
// (whether sequences can be read 16 bytes at a time), HEADROOM and ROOT (numbers that `monarch.py` explains).
// Layouts: operands are words of two float16 as mma.m16n8k16 takes them, 16 bytes a lane. Frequencies stand as that
// product leaves them: [tile][chunk of 16 columns][half h of 8 columns][lane], of row 8 r + lane / 4 and column
// 8 h + 2 (lane % 4) + c the number 2 r + c.

typedef unsigned int word;
typedef unsigned short half;

#if NUMBER == 2
typedef float number;
#else
typedef unsigned short number;
#endif

constexpr int PERIOD = ROWS * COLUMNS, TILES = ROWS / 16, CHUNKS = COLUMNS / 16, SEQUENCES = 64 / COLUMNS;
constexpr int PRODUCT_WARPS = ROWS / 32 < 8 ? ROWS / 32 : 8;  // which take two tiles or more
constexpr int TILE_WARPS = TILES < 4 ? TILES : TILES < 32 ? 4 : 8;  // which take one each
constexpr int PARTS = NUMBER == 1 ? 1 : 2;  // of float16, that a coefficient is taken in
constexpr word EVERY_LANE = 0xffffffff, SIGNS = 0x80008000;

#define INSIDE __device__ __forceinline__

INSIDE int lane() { return threadIdx.x % 32; }
INSIDE int warp() { return threadIdx.x / 32; }

// Numbers

INSIDE word pack(float low, float high) {  // two float16
    word packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

INSIDE float widen(half value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
}

INSIDE float low(word packed) { return widen(packed & 0xffff); }
INSIDE float high(word packed) { return widen(packed >> 16); }

INSIDE float real(number value) {
#if NUMBER == 2
    return value;
#elif NUMBER == 1
    return __uint_as_float((word)value << 16);
#else
    return widen(value);
#endif
}

INSIDE word pack_numbers(float low, float high) {  // two of 16 bits
#if NUMBER == 1
    word packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
#else
    return pack(low, high);
#endif
}

// The greatest power of two that is not above a size (by its bits), where its inverse is a normal number too.
INSIDE float power_of_two(word size) {
    return __uint_as_float(min(max(size & 0x7f800000u, 0x00800000u), 0x7e800000u));
}

INSIDE float inverse(float power_of_two) { return __uint_as_float(0x7f000000u - __float_as_uint(power_of_two)); }

// Tensor cores

INSIDE void multiply(float (&sum)[4], uint4 a, word b0, word b1) {  // sum (16, 8) += a (16, 16) b (16, 8)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

INSIDE uint4 negative(uint4 a) { return {a.x ^ SIGNS, a.y ^ SIGNS, a.z ^ SIGNS, a.w ^ SIGNS}; }

// A (16, 16) result, of two halves of 8 columns, as the left operand of the next product.
INSIDE uint4 operand(const float (&first)[4], const float (&second)[4]) {
    return {pack(first[0], first[1]), pack(first[2], first[3]), pack(second[0], second[1]), pack(second[2], second[3])};
}

// Shared memory: matrices of 64 columns in 16 bits, whose pieces of 8 columns change places so that no reader waits.

INSIDE word shared_address(const void* pointer) { return (word)__cvta_generic_to_shared(pointer); }
INSIDE int piece(int row, int column) { return row * 128 + (((column / 8) ^ row) & 7) * 16; }

// Right operands (16, 64) from 16 rows of a matrix: for columns 8 n and up, b[2 n] and b[2 n + 1].
template <int WIDTH>
INSIDE void right_operands(word (&b)[2 * WIDTH], word matrix, int first_row) {
    const int row = first_row + lane() % 16;
#pragma unroll
    for (int n = 0; n < WIDTH; n += 2) {
        const word address = matrix + piece(row, 8 * (n + lane() / 16));
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(b[2 * n]), "=r"(b[2 * n + 1]), "=r"(b[2 * n + 2]), "=r"(b[2 * n + 3])
                     : "r"(address) : "memory");
    }
}

// Sequences into shared memory

struct Eight {  // tokens
#if NUMBER == 2
    uint4 part[2];
#else
    uint4 part[1];
#endif
    INSIDE const number* numbers() const { return (const number*)part; }
    INSIDE number* numbers() { return (number*)part; }
};

INSIDE Eight fetch(const number* sequence, int token, int length) {
    Eight eight = {};
#if ALIGNED
    if (token < length) {
#pragma unroll
        for (int i = 0; i < sizeof(Eight) / 16; i++) eight.part[i] = ((const uint4*)(sequence + token))[i];
    }
#else
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (token + i < length) eight.numbers()[i] = sequence[token + i];
#endif
    return eight;
}

// Sequences first .. of one channel, divided by powers of two `sizes`, into a matrix (ROWS, 64) of float16.
// All threads take part; the matrix and the sizes are ready when it returns. `largest` is scratch.
template <int WARPS>
INSIDE void load(const number* x, int first, int batch, int length, char* matrix, float* sizes, word* largest) {
    constexpr int THREADS = 32 * WARPS, EACH = PERIOD / 8 / THREADS;  // pieces of a sequence a thread
    Eight eights[SEQUENCES][EACH];
    if (threadIdx.x < SEQUENCES) largest[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int s = 0; s < SEQUENCES; s++) {
        const int count = first + s < batch ? length : 0;
        float size = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int token = 8 * (i * THREADS + threadIdx.x);
            eights[s][i] = fetch(x + (long long)(first + s) * length, token, count);
#pragma unroll
            for (int k = 0; k < 8; k++) size = fmaxf(size, fabsf(real(eights[s][i].numbers()[k])));
        }
        const word most = __reduce_max_sync(EVERY_LANE, __float_as_uint(size));  // of bits, as positive numbers
        if (lane() == 0) atomicMax(largest + s, most);
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < SEQUENCES; s++) {
        const float size = power_of_two(largest[s]), factor = inverse(size);
        if (threadIdx.x == 0) sizes[s] = size;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int token = 8 * (i * THREADS + threadIdx.x);
            float v[8];
#pragma unroll
            for (int k = 0; k < 8; k++) v[k] = real(eights[s][i].numbers()[k]) * factor;
            *(uint4*)(matrix + piece(token / COLUMNS, s * COLUMNS + token % COLUMNS)) =
                {pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7])};
        }
    }
    __syncthreads();
}

// Transforms of one tile: 16 rows of frequencies g, and the columns of COUNT sequences

constexpr int PIECES = COLUMNS / 8;  // of 8 columns, a sequence

struct Pair {
    uint4 re, im;
};

typedef const uint4* Table;  // of pairs of left operands (16, 16), or of right ones (16, 16)

INSIDE Pair pair(Table table, int index) {
    const uint4* lanes = table + 64 * index + lane();
    return {__ldg(lanes), __ldg(lanes + 32)};
}

// (re, im) += the matrix from the left times x, or i x.
template <int COUNT, bool TIMES_I>
INSIDE void from_left(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4], Table left, word x, int tile) {
#pragma unroll 8
    for (int step = 0; step < TILES; step++) {
        const Pair a = pair(left, tile * TILES + step);
        const uint4 to_re = TIMES_I ? negative(a.im) : a.re, to_im = TIMES_I ? a.re : a.im;
        word b[2 * COUNT * PIECES];
        right_operands<COUNT * PIECES>(b, x, 16 * step);
#pragma unroll
        for (int n = 0; n < COUNT * PIECES; n++) {
            multiply(re[n], to_re, b[2 * n], b[2 * n + 1]);
            multiply(im[n], to_im, b[2 * n], b[2 * n + 1]);
        }
    }
}

INSIDE float2 times(float2 a, float2 b) { return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x}; }

// Multiply by e(b (g + 1/4) / P), or its conjugate, and by `size`. factors: (ROWS, 6) for b = 0, 2, 4, 6, 1, 8.
template <int COUNT, bool CONJUGATE>
INSIDE void turn(
    float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4], const float2* factors, int tile, float size = 1) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float2* row = factors + 6 * (16 * tile + 8 * r + lane() / 4);
        const float2 eight = __ldg(row + 5);
        float2 w[2] = {times(__ldg(row + lane() % 4), {size, 0})};
        w[1] = times(w[0], __ldg(row + 4));
#pragma unroll
        for (int n = 0; n < PIECES; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const float cosine = w[c].x, sine = CONJUGATE ? -w[c].y : w[c].y;
                w[c] = times(w[c], eight);
#pragma unroll
                for (int s = 0; s < COUNT; s++) {
                    float &a = re[s * PIECES + n][2 * r + c], &b = im[s * PIECES + n][2 * r + c];
                    const float turned = a * cosine - b * sine;
                    b = a * sine + b * cosine;
                    a = turned;
                }
            }
    }
}

// (re, im), (16, 16) a sequence, += a tile times columns 16 chunk and up of the matrix from the right.
template <int COUNT>
INSIDE void from_right(
    float (&re)[COUNT][2][4], float (&im)[COUNT][2][4], const Pair (&tile)[COUNT * CHUNKS], Table right, int chunk) {
#pragma unroll
    for (int step = 0; step < CHUNKS; step++) {
        const Pair e = pair(right, step * CHUNKS + chunk);
        const uint4 minus = negative(e.im);
#pragma unroll
        for (int s = 0; s < COUNT; s++) {
            const Pair& a = tile[s * CHUNKS + step];
            multiply(re[s][0], a.re, e.re.x, e.re.y);
            multiply(im[s][0], a.re, e.im.x, e.im.y);
            multiply(re[s][1], a.re, e.re.z, e.re.w);
            multiply(im[s][1], a.re, e.im.z, e.im.w);
            multiply(re[s][0], a.im, minus.x, minus.y);
            multiply(im[s][0], a.im, e.re.x, e.re.y);
            multiply(re[s][1], a.im, minus.z, minus.w);
            multiply(im[s][1], a.im, e.re.z, e.re.w);
        }
    }
}

// (re, im) += frequencies of columns 16 chunk and up times rows of the conjugate matrix from the right.
template <int COUNT>
INSIDE void back_from_right(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4],
                            const Pair (&frequencies)[COUNT], Table right, int chunk) {
#pragma unroll
    for (int step = 0; step < CHUNKS; step++) {
        const Pair e = pair(right, chunk * CHUNKS + step);
        const uint4 minus = negative(e.im);
#pragma unroll
        for (int s = 0; s < COUNT; s++) {
            const int n = s * PIECES + 2 * step;
            const Pair& a = frequencies[s];
            multiply(re[n], a.re, e.re.x, e.re.y);
            multiply(im[n], a.re, minus.x, minus.y);
            multiply(re[n + 1], a.re, e.re.z, e.re.w);
            multiply(im[n + 1], a.re, minus.z, minus.w);
            multiply(re[n], a.im, e.im.x, e.im.y);
            multiply(im[n], a.im, e.re.x, e.re.y);
            multiply(re[n + 1], a.im, e.im.z, e.im.w);
            multiply(im[n + 1], a.im, e.re.z, e.re.w);
        }
    }
}

// Results of the matrix from the left, once turned, as operands of that from the right.
template <int COUNT>
INSIDE void operands(
    Pair (&tile)[COUNT * CHUNKS], const float (&re)[COUNT * PIECES][4], const float (&im)[COUNT * PIECES][4]) {
#pragma unroll
    for (int step = 0; step < COUNT * CHUNKS; step++)
        tile[step] = {operand(re[2 * step], re[2 * step + 1]), operand(im[2 * step], im[2 * step + 1])};
}

// A tile of F x before the matrix from the right, from a group of sequences in shared memory.
INSIDE void begin(Pair (&tile)[4], Table left, const float2* factors, word x, int index) {
    float re[8][4] = {}, im[8][4] = {};
    from_left<SEQUENCES, false>(re, im, left, x, index);
    turn<SEQUENCES, false>(re, im, factors, index);
    operands<SEQUENCES>(tile, re, im);
}

// A tile before the last product, times `size`, into a matrix (2, ROWS, 64): real and imaginary parts.
template <int COUNT>
INSIDE void keep(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4], const float2* factors, char* matrix,
                 int index, float size = 1) {
    turn<COUNT, true>(re, im, factors, index, size);
#pragma unroll
    for (int n = 0; n < COUNT * PIECES; n++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int place = piece(16 * index + 8 * r + lane() / 4, 8 * n) + 4 * (lane() % 4);
            *(word*)(matrix + place) = pack(re[n][2 * r], re[n][2 * r + 1]);
            *(word*)(matrix + ROWS * 128 + place) = pack(im[n][2 * r], im[n][2 * r + 1]);
        }
}

// The real part of the last product, from the conjugate matrix from the left, of COUNT tiles of 16 rows a and WIDTH
// pieces of 8 columns.
template <int COUNT, int WIDTH>
INSIDE void finish(float (&y)[COUNT][WIDTH][4], Table back, word matrix, int first) {
#pragma unroll 4
    for (int step = 0; step < TILES; step++) {
        word re[2 * WIDTH], im[2 * WIDTH];
        right_operands<WIDTH>(re, matrix, 16 * step);
        right_operands<WIDTH>(im, matrix + ROWS * 128, 16 * step);
#pragma unroll
        for (int t = 0; t < COUNT; t++) {
            const Pair a = pair(back, (first + t) * TILES + step);
#pragma unroll
            for (int n = 0; n < WIDTH; n++) {
                multiply(y[t][n], a.re, re[2 * n], re[2 * n + 1]);
                multiply(y[t][n], a.im, im[2 * n], im[2 * n + 1]);
            }
        }
    }
}

// Where a lane's frequencies of a tile and chunk begin; those of 8 columns further on stand 32 lanes away.
INSIDE long long place(int channel, int tile, int chunk) {
    return (((long long)channel * TILES + tile) * CHUNKS + chunk) * 64 + lane();
}

// 16 rows of y, which shared memory holds in 16 bits, to their sequences.
INSIDE void store(const char* matrix, number* y, int tile, int first, int batch, int length) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = 16 * tile + (32 * i + lane()) / 8, column = 8 * (lane() % 8);
        const int token = row * COLUMNS + column % COLUMNS, sequence = first + column / COLUMNS;
        if (sequence >= batch) continue;
        number* target = y + (long long)sequence * length;
        const uint4 eight = *(const uint4*)(matrix + piece(row, column));
#if ALIGNED
        if (token < length) *(uint4*)(target + token) = eight;
#else
        const word words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (token + k < length) target[token + k] = (number)(words[k / 2] >> (16 * (k % 2)));
#endif
    }
}

// y = Re F^H (C F x), with the conjugate of C if `transposed`. A block for a group of sequences of a channel.
extern "C" __global__ void __launch_bounds__(32 * PRODUCT_WARPS, 12 / PRODUCT_WARPS) product(
    const number* x, const uint4* spectrum, const float* scale, Table left, Table back, const float2* factors,
    Table right, number* y, int batch, int length, int transposed) {
    extern __shared__ __align__(128) char memory[];
    __shared__ float sizes[SEQUENCES];
    __shared__ word largest[SEQUENCES];
    char* const kept = memory + ROWS * 128;
    const int groups = (batch + SEQUENCES - 1) / SEQUENCES;
    const int channel = blockIdx.x / groups, first = blockIdx.x % groups * SEQUENCES;
    const long long start = (long long)channel * batch * length;
    const word signs = transposed ? 0x80000000u : 0;  // of imaginary parts
    load<PRODUCT_WARPS>(x + start, first, batch, length, memory, sizes, largest);
#pragma unroll 1
    for (int index = warp(); index < TILES; index += PRODUCT_WARPS) {
        Pair tile[4];
        begin(tile, left, factors, shared_address(memory), index);
        float re[8][4] = {}, im[8][4] = {};
#pragma unroll 1
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const uint4* c = spectrum + place(channel, index, chunk);
            const uint4 halves[2] = {__ldg(c), __ldg(c + 32)};
            float a[SEQUENCES][2][4] = {}, b[SEQUENCES][2][4] = {};
            from_right<SEQUENCES>(a, b, tile, right, chunk);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const word words[4] = {halves[h].x, halves[h].y, halves[h].z, halves[h].w};
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    const float2 c = {low(words[k]), high(words[k] ^ signs)};
#pragma unroll
                    for (int s = 0; s < SEQUENCES; s++) {
                        const float2 y = times(c, {a[s][h][k], b[s][h][k]});
                        a[s][h][k] = y.x;
                        b[s][h][k] = y.y;
                    }
                }
            }
            Pair frequencies[SEQUENCES];
#pragma unroll
            for (int s = 0; s < SEQUENCES; s++)
                frequencies[s] = {operand(a[s][0], a[s][1]), operand(b[s][0], b[s][1])};
            back_from_right<SEQUENCES>(re, im, frequencies, right, chunk);
        }
        keep<SEQUENCES>(re, im, factors, kept, index);
    }
    __syncthreads();
#pragma unroll 1
    for (int index = 2 * warp(); index < TILES; index += 2 * PRODUCT_WARPS) {
        float sums[2][8][4] = {};
        finish<2, 8>(sums, back, shared_address(kept), index);
#pragma unroll
        for (int t = 0; t < 2; t++) {
#pragma unroll
            for (int n = 0; n < 8; n++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int row = 16 * (index + t) + 8 * r + lane() / 4, sequence = 8 * n / COLUMNS;
                    const float one = sums[t][n][2 * r] * sizes[sequence] * scale[channel];
                    const float two = sums[t][n][2 * r + 1] * sizes[sequence] * scale[channel];
#if NUMBER == 2
                    const int token = row * COLUMNS + 8 * n % COLUMNS + 2 * (lane() % 4);
                    number* target = y + start + (long long)(first + sequence) * length + token;
                    if (first + sequence < batch && token < length) target[0] = one;
                    if (first + sequence < batch && token + 1 < length) target[1] = two;
#else
                    *(word*)(memory + piece(row, 8 * n) + 4 * (lane() % 4)) = pack_numbers(one, two);
#endif
                }
#if NUMBER != 2
            __syncwarp();
            store(memory, y + start, index + t, first, batch, length);
#endif
        }
    }
}

// The sum of F dy conj(F x) over sequences, as left operands, each tile divided by a power of two. A block for TILE_WARPS
// tiles of a channel.
extern "C" __global__ void __launch_bounds__(32 * TILE_WARPS, 8 / TILE_WARPS) correlate(
    const number* x, const number* dy, Table left, const float2* factors, Table right, uint4* sums, float* sizes_of_sums,
    int batch, int length) {
    extern __shared__ __align__(128) char memory[];
    __shared__ float sizes[2][SEQUENCES];
    __shared__ word largest[SEQUENCES];
    constexpr int BLOCKS = TILES / TILE_WARPS;  // a channel
    const int channel = blockIdx.x / BLOCKS, index = blockIdx.x % BLOCKS * TILE_WARPS + warp();
    const long long start = (long long)channel * batch * length, tile = (long long)channel * TILES + index;
    float re[CHUNKS][2][4] = {}, im[CHUNKS][2][4] = {};
#pragma unroll 1
    for (int first = 0; first < batch; first += SEQUENCES) {
        __syncthreads();
        load<TILE_WARPS>(x + start, first, batch, length, memory, sizes[0], largest);
        load<TILE_WARPS>(dy + start, first, batch, length, memory + ROWS * 128, sizes[1], largest);
        Pair of_x[4], of_dy[4];
        begin(of_x, left, factors, shared_address(memory), index);
        begin(of_dy, left, factors, shared_address(memory + ROWS * 128), index);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float a[SEQUENCES][2][4] = {}, b[SEQUENCES][2][4] = {}, c[SEQUENCES][2][4] = {}, d[SEQUENCES][2][4] = {};
            from_right<SEQUENCES>(a, b, of_x, right, chunk);
            from_right<SEQUENCES>(c, d, of_dy, right, chunk);
#pragma unroll
            for (int s = 0; s < SEQUENCES; s++) {
                const float size = sizes[0][s] * sizes[1][s];
#pragma unroll
                for (int h = 0; h < 2; h++)
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        const float2 product = times({a[s][h][k], -b[s][h][k]}, {c[s][h][k], d[s][h][k]});
                        re[chunk][h][k] += product.x * size;
                        im[chunk][h][k] += product.y * size;
                    }
            }
        }
    }
    float most = 0;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
        for (int k = 0; k < 8; k++) most = fmaxf(fmaxf(most, fabsf(re[chunk][k / 4][k % 4])), fabsf(im[chunk][k / 4][k % 4]));
    const float size = power_of_two(__reduce_max_sync(EVERY_LANE, __float_as_uint(most))), factor = inverse(size);
    if (lane() == 0) sizes_of_sums[tile] = size;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            re[chunk][k / 4][k % 4] *= factor;
            im[chunk][k / 4][k % 4] *= factor;
        }
        uint4* target = sums + 64 * (tile * CHUNKS + chunk) + lane();
        target[0] = operand(re[chunk][0], re[chunk][1]);
        target[32] = operand(im[chunk][0], im[chunk][1]);
    }
}

// The gradient by the coefficients, of lags lowest .. lowest + lags - 1, from the sums of `correlate`. A block for a
// channel, and a second one for the lags below 0.
extern "C" __global__ void __launch_bounds__(32 * PRODUCT_WARPS, 12 / PRODUCT_WARPS) restore(
    Table sums, const float* sizes, Table back, const float2* factors, Table right, float* dt, int lags, int lowest) {
    extern __shared__ __align__(128) char kept[];
    const int parts = lowest < 0 ? 2 : 1, channel = blockIdx.x / parts;
    const bool below = blockIdx.x % parts;
    sums += (long long)channel * TILES * CHUNKS * 64;
    sizes += (long long)channel * TILES;
    float size = 0;  // the largest, a power of two
    for (int tile = lane(); tile < TILES; tile += 32) size = fmaxf(size, sizes[tile]);
    size = __uint_as_float(__reduce_max_sync(EVERY_LANE, __float_as_uint(size)));
#pragma unroll 1
    for (int index = warp(); index < TILES; index += PRODUCT_WARPS) {
        float re[PIECES][4] = {}, im[PIECES][4] = {};
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const Pair sum = pair(sums, index * CHUNKS + chunk);  // of a lag below it is imaginary, at P + lag
            const Pair frequencies[1] = {{below ? sum.im : sum.re, below ? negative(sum.re) : sum.im}};
            back_from_right<1>(re, im, frequencies, right, chunk);
        }
        keep<1>(re, im, factors, kept, index, sizes[index] * inverse(size));
    }
    __syncthreads();
    const int shift = below ? -PERIOD - lowest : -lowest, end = below ? -lowest : lags;
    dt += (long long)channel * lags;
#pragma unroll 1
    for (int index = 2 * warp(); index < TILES; index += 2 * PRODUCT_WARPS) {
        float y[2][PIECES][4] = {};
        finish<2, PIECES>(y, back, shared_address(kept), index);
#pragma unroll
        for (int t = 0; t < 2; t++)
#pragma unroll
            for (int n = 0; n < PIECES; n++)
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    const int row = 16 * (index + t) + 8 * (k / 2) + lane() / 4;
                    const int lag = row * COLUMNS + 8 * n + 2 * (lane() % 4) + k % 2 + shift;
                    if (lag >= 0 && lag < end) dt[lag] = y[t][n][k] * ROOT * size;
                }
    }
}

constexpr int EACH = PERIOD / (32 * TILE_WARPS);  // coefficients a thread
constexpr int TOGETHER = EACH < 32 ? EACH : 32, STEPS = EACH / TOGETHER;  // of them it reads so many at a time

INSIDE int transform_token(int step, int k) {  // two neighbours a thread
    return 2 * ((step * TOGETHER + k) / 2 * 32 * TILE_WARPS + threadIdx.x) + k % 2;
}

// Coefficients of lags 0 and up, or of lags below 0 at P + lag, as tokens; zeros beside them.
INSIDE void gather(float (&v)[TOGETHER], const float* t, int stride, int step, bool below, int lags, int lowest) {
    const int shift = below ? -PERIOD - lowest : -lowest, end = below ? -lowest : lags;
#pragma unroll
    for (int k = 0; k < TOGETHER; k++) {
        const int lag = transform_token(step, k) + shift;
        v[k] = lag >= 0 && lag < end ? t[(long long)lag * stride] : 0;
    }
}

// C / scale, and the scale, of coefficients of lags from `lowest` on. A block for a channel.
extern "C" __global__ void __launch_bounds__(32 * TILE_WARPS, 12 / TILE_WARPS) transform(
    const float* t, Table left, const float2* factors, Table right, uint4* spectrum, float* scale, int channel_stride,
    int lag_stride, int lags, int lowest) {
    extern __shared__ __align__(128) char memory[];
    __shared__ float totals[TILE_WARPS];
    const int channel = blockIdx.x;
    const bool both = lowest < 0, once = PARTS == 1 && !both;  // whether shared memory holds all coefficients
    t += (long long)channel * channel_stride;
    float total = 0;
    for (int below = 0; below <= both; below++)
        for (int step = 0; step < STEPS; step++) {
            float v[TOGETHER];
            gather(v, t, lag_stride, step, below, lags, lowest);
#pragma unroll
            for (int k = 0; k < TOGETHER; k++) total += fabsf(v[k]);
        }
    for (int other = 16; other; other /= 2) total += __shfl_xor_sync(EVERY_LANE, total, other);
    if (lane() == 0) totals[warp()] = total;
    __syncthreads();
    total = 0;
    for (int w = 0; w < TILE_WARPS; w++) total += totals[w];
    const float size = power_of_two(__float_as_uint(total / HEADROOM)), factor = inverse(size);
    if (threadIdx.x == 0) scale[channel] = size;

    const word matrix = shared_address(memory);
#pragma unroll 1
    for (int index = warp(); index < TILES; index += TILE_WARPS) {
        float re[PIECES][4] = {}, im[PIECES][4] = {};
        for (int below = 0; below <= both; below++)
            for (int part = 0; part < PARTS; part++) {
                if (index < TILE_WARPS || !once) {
                    __syncthreads();
                    for (int step = 0; step < STEPS; step++) {
                        float v[TOGETHER];
                        gather(v, t, lag_stride, step, below, lags, lowest);
#pragma unroll
                        for (int k = 0; k < TOGETHER; k += 2) {
                            const int token = transform_token(step, k), column = token % COLUMNS;
                            word packed = pack(v[k] * factor, v[k + 1] * factor);
                            if (part) packed = pack(v[k] * factor - low(packed), v[k + 1] * factor - high(packed));
                            *(word*)(memory + piece(token / COLUMNS, column) + 2 * (column % 8)) = packed;
                        }
                    }
                    __syncthreads();
                }
                for (int rest = 0; rest < PARTS - part; rest++) {
                    Table of_part = left + rest * 64 * TILES * TILES;
                    if (below)
                        from_left<1, true>(re, im, of_part, matrix, index);
                    else
                        from_left<1, false>(re, im, of_part, matrix, index);
                }
            }
        turn<1, false>(re, im, factors, index);
        Pair tile[CHUNKS], rest[CHUNKS];
        operands<1>(tile, re, im);
#pragma unroll
        for (int n = 0; n < PIECES; n++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                re[n][k] -= low(pack(re[n][k], 0));
                im[n][k] -= low(pack(im[n][k], 0));
            }
        operands<1>(rest, re, im);
#pragma unroll 1
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float a[1][2][4] = {}, b[1][2][4] = {};
            from_right<1>(a, b, tile, right, chunk);
            if (PARTS == 2) {
                from_right<1>(a, b, rest, right, chunk);
                from_right<1>(a, b, tile, right + 64 * CHUNKS * CHUNKS, chunk);
            }
            uint4* target = spectrum + place(channel, index, chunk);
#pragma unroll
            for (int h = 0; h < 2; h++)
                target[32 * h] = {
                    pack(a[0][h][0] * ROOT, b[0][h][0] * ROOT), pack(a[0][h][1] * ROOT, b[0][h][1] * ROOT),
                    pack(a[0][h][2] * ROOT, b[0][h][2] * ROOT), pack(a[0][h][3] * ROOT, b[0][h][3] * ROOT)};
        }
    }
}

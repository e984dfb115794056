// Sequences of one channel into shared memory, and back.

#pragma once
#include "left.cuh"

struct Eight {  // tokens
#if NUMBER == 2
    uint4 part[2];
#else
    uint4 part[1];
#endif
    INLINE const number* numbers() const { return (const number*)part; }
    INLINE number* numbers() { return (number*)part; }
};

// Token 2 k and the next one.
INLINE void put_pair(Eight& eight, int k, float one, float two) {
#if NUMBER == 2
    eight.numbers()[2 * k] = one;
    eight.numbers()[2 * k + 1] = two;
#else
    ((word*)eight.part)[k] = pack_numbers(one, two);
#endif
}

INLINE float silu_of(float v) { return __fdividef(v, 1 + __expf(-v)); }

INLINE void take_silu(Eight& eight) {
#pragma unroll
    for (int k = 0; k < 4; k++)
        put_pair(eight, k, silu_of(real(eight.numbers()[2 * k])), silu_of(real(eight.numbers()[2 * k + 1])));
}

INLINE Eight fetch(const number* sequence, int token, int length) {
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
// With `silu`, SiLU of them. All threads take part; the matrix and the sizes are ready when it returns: each thread its
// part of the sum of squares of what stands in the matrix. `largest` is scratch.
template <int WARPS>
INLINE float load(
    const number* x, int first, int batch, int length, char* matrix, float* sizes, word* largest, bool silu = false) {
    constexpr int THREADS = 32 * WARPS, EACH = PERIOD / 8 / THREADS;  // pieces of a sequence a thread
    Eight eights[SEQUENCES][EACH];
    if (threadIdx.x < SEQUENCES) largest[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int s = 0; s < SEQUENCES; s++)
#pragma unroll
        for (int i = 0; i < EACH; i++) {  // all before any is used, to wait for memory once
            const int token = 8 * (i * THREADS + threadIdx.x), count = first + s < batch ? length : 0;
            eights[s][i] = fetch(x + (long long)(first + s) * length, token, count);
        }
    if (silu)
#pragma unroll
        for (int i = 0; i < SEQUENCES * EACH; i++) take_silu(eights[i / EACH][i % EACH]);
#pragma unroll
    for (int s = 0; s < SEQUENCES; s++) {
        float size = 0;
#pragma unroll
        for (int k = 0; k < 8 * EACH; k++) size = fmaxf(size, fabsf(real(eights[s][k / 8].numbers()[k % 8])));
        const word most = __reduce_max_sync(EVERY_LANE, __float_as_uint(size));  // of bits, as positive numbers
        if (lane() == 0) atomicMax(largest + s, most);
    }
    __syncthreads();
    float squares = 0;
#pragma unroll
    for (int s = 0; s < SEQUENCES; s++) {
        const float size = power_of_two(largest[s]), factor = inverse(size);
        if (threadIdx.x == 0) sizes[s] = size;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int token = 8 * (i * THREADS + threadIdx.x);
            float v[8];
#pragma unroll
            for (int k = 0; k < 8; k++) {
                v[k] = real(eights[s][i].numbers()[k]) * factor;
                squares += v[k] * v[k];
            }
            *(uint4*)(matrix + piece(token / COLUMNS, s * COLUMNS + token % COLUMNS)) =
                {pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7])};
        }
    }
    __syncthreads();
    return squares;
}

#if NUMBER != 2
// The rows of a unit of y, which shared memory holds in 16 bits, to their sequences.
INLINE void store(const char* matrix, number* y, int unit, int first, int batch, int length) {
#pragma unroll
    for (int i = 0; i < UNIT_ROWS / 4; i++) {
        const int row = row_of(unit, 4 * i + lane() / 8), column = 8 * (lane() % 8);
        const int token = row * COLUMNS + column % COLUMNS, sequence = first + column / COLUMNS;
        if (sequence >= batch) continue;
        number* target = y + (long long)sequence * length;
        const Eight eight = {*(const uint4*)(matrix + piece(row, column))};
#if ALIGNED
        if (token < length) *(uint4*)(target + token) = eight.part[0];
#else
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (token + k < length) target[token + k] = eight.numbers()[k];
#endif
    }
}
#endif

// What the kernels of `monarch.py` are made of: operands of tensor cores, matrices in shared memory.
//
// A sequence of P = ROWS COLUMNS tokens is a matrix (a, b) of its tokens COLUMNS a + b, and the frequency g + ROWS h
// stands in the row of g, at column h / CHUNKS of chunk h % CHUNKS. A block of threads takes 64 columns: of 64 / COLUMNS
// sequences of one channel. A warp takes tiles of 16 rows and all columns.
//
// Compiled with ROWS, COLUMNS, NUMBER (0 float16, 1 bfloat16, 2 float32: of x, y and their gradients), ALIGNED (whether
// sequences can be read 8 tokens and 16 bytes at a time), WIDE_Y (whether y is float32), IN_PLACE (whether what a product
// makes of x takes its place), PRODUCT_WARPS, CORRELATE_WARPS and SPECTRUM_WARPS (of their blocks), RESIDENT_WARPS (of a
// multiprocessor), HEADROOM and ROOT (numbers that `monarch.py` explains).

#pragma once
#include "lanes.cuh"
#include "numbers.cuh"

constexpr int PERIOD = ROWS * COLUMNS, TILES = ROWS / 16, CHUNKS = COLUMNS / 16, SEQUENCES = 64 / COLUMNS;
constexpr int MATRIX = ROWS * 128;  // bytes in shared memory
constexpr bool TWO_STEPS = ROWS > 64 && NUMBER == 1;  // of the matrix from the left, as `left.cuh` says

// What a block will read, of which all threads call for their part.
template <int WARPS>
INLINE void prefetch(const void* start, long long bytes) {
    for (long long i = 128 * threadIdx.x; i < bytes; i += 128 * 32 * WARPS) prefetch((const char*)start + i);
}

// The sum of values of all threads, in an order that is always the same. `totals` is scratch, of a number a warp.
template <int WARPS>
INLINE float sum_of_block(float value, float* totals) {
    for (int other = 16; other; other /= 2) value += __shfl_xor_sync(EVERY_LANE, value, other);
    if (lane() == 0) totals[warp()] = value;
    __syncthreads();
    value = 0;
    for (int w = 0; w < WARPS; w++) value += totals[w];
    return value;
}

// A (16, 8) result of tensor cores: in a row, and in the 8th after it.
template <class T>
struct Piece {
    T rows[2];
};

INLINE void multiply(Piece<Wide>& sum, uint4 a, word b0, word b1) {  // sum += a (16, 16) b (16, 8)
    multiply(sum.rows[0].one, sum.rows[0].two, sum.rows[1].one, sum.rows[1].two, a, b0, b1);
}

INLINE void multiply(Piece<Narrow>& sum, uint4 a, word b0, word b1) {
    multiply(sum.rows[0].both, sum.rows[1].both, a, b0, b1);
}

// Operands of tensor cores

INLINE uint4 negative(uint4 a) { return {a.x ^ SIGNS, a.y ^ SIGNS, a.z ^ SIGNS, a.w ^ SIGNS}; }

// A (16, 16) result, of two halves of 8 columns, as the left operand of the next product.
template <class T>
INLINE uint4 operand(const Piece<T>& first, const Piece<T>& second) {
    return {packed(first.rows[0]), packed(first.rows[1]), packed(second.rows[0]), packed(second.rows[1])};
}

// Shared memory: matrices of 64 columns in 16 bits, whose pieces of 8 columns change places so that no reader waits.

INLINE int piece(int row, int column) {
    const int turned = TWO_STEPS ? row ^ (row / 16) : row;  // two steps read neighbours, and rows 16 apart
    return (row * 128 + turned % 8 * 16) ^ (column / 8 * 16);
}

// Right operands of 16 rows of a matrix, which lanes 0 - 15 name in order, and once more lanes 16 - 31: for columns
// 8 n and up from `column` on, b[2 n] and b[2 n + 1].
template <int EIGHTS>
INLINE void right_operands(word (&b)[2 * EIGHTS], word matrix, int row, int column = 0) {
#pragma unroll
    for (int n = 0; n < EIGHTS; n += 2) read_transposed(b + 2 * n, matrix + piece(row, column + 8 * (n + lane() / 16)));
}

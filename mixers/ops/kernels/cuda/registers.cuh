// What the kernels of `monarch.py` are made of: numbers, operands of tensor cores, matrices in shared memory.
//
// A sequence of P = ROWS COLUMNS tokens is a matrix (a, b) of its tokens COLUMNS a + b, and the frequency g + ROWS h
// stands in the row of g, at column h / CHUNKS of chunk h % CHUNKS. A block of threads takes 64 columns: of 64 / COLUMNS
// sequences of one channel. A warp takes tiles of 16 rows and all columns.
//
// Compiled with ROWS, COLUMNS, NUMBER (0 float16, 1 bfloat16, 2 float32: of x, y and their gradients), ALIGNED (whether
// sequences can be read 8 tokens and 16 bytes at a time), PRODUCT_WARPS, CORRELATE_WARPS and SPECTRUM_WARPS (of their
// blocks), HEADROOM and ROOT (numbers that `monarch.py` explains).

#pragma once
#include "instructions.cuh"

#if NUMBER == 2
typedef float number;
#else
typedef unsigned short number;
#endif

constexpr int PERIOD = ROWS * COLUMNS, TILES = ROWS / 16, CHUNKS = COLUMNS / 16, SEQUENCES = 64 / COLUMNS;
constexpr int MATRIX = ROWS * 128;  // bytes in shared memory
constexpr bool TWO_STEPS = ROWS > 64 && NUMBER == 1;  // of the matrix from the left, as `left.cuh` says
constexpr word EVERY_LANE = 0xffffffff, SIGNS = 0x80008000;

INLINE int lane() { return threadIdx.x % 32; }
INLINE int warp() { return threadIdx.x / 32; }

// Numbers

INLINE float low(word packed) { return widen(packed & 0xffff); }
INLINE float high(word packed) { return widen(packed >> 16); }

INLINE float rest(float value) { return value - low(pack(value, 0)); }  // what float16 leaves

INLINE float real(number value) {
#if NUMBER == 2
    return value;
#elif NUMBER == 1
    return __uint_as_float((word)value << 16);
#else
    return widen(value);
#endif
}

INLINE word pack_numbers(float low, float high) {  // two of 16 bits
#if NUMBER == 1
    return pack_bfloat16(low, high);
#else
    return pack(low, high);
#endif
}

// The greatest power of two that is not above a size (by its bits), where its inverse is a normal number too.
INLINE float power_of_two(word size) {
    return __uint_as_float(min(max(size & 0x7f800000u, 0x00800000u), 0x7e800000u));
}

INLINE float inverse(float power_of_two) { return __uint_as_float(0x7f000000u - __float_as_uint(power_of_two)); }

// Operands of tensor cores

INLINE uint4 negative(uint4 a) { return {a.x ^ SIGNS, a.y ^ SIGNS, a.z ^ SIGNS, a.w ^ SIGNS}; }

// A (16, 16) result, of two halves of 8 columns, as the left operand of the next product.
INLINE uint4 operand(const float (&first)[4], const float (&second)[4]) {
    return {pack(first[0], first[1]), pack(first[2], first[3]), pack(second[0], second[1]), pack(second[2], second[3])};
}

// Shared memory: matrices of 64 columns in 16 bits, whose pieces of 8 columns change places so that no reader waits.

INLINE int piece(int row, int column) {
    const int turned = TWO_STEPS ? row ^ (row / 16) : row;  // two steps read neighbours, and rows 16 apart
    return row * 128 + (((column / 8) ^ turned) % 8) * 16;
}

// Right operands of 16 rows of a matrix, which lanes 0 - 15 name in order, and once more lanes 16 - 31: for columns
// 8 n and up from `column` on, b[2 n] and b[2 n + 1].
template <int EIGHTS>
INLINE void right_operands(word (&b)[2 * EIGHTS], word matrix, int row, int column = 0) {
#pragma unroll
    for (int n = 0; n < EIGHTS; n += 2) read_transposed(b + 2 * n, matrix + piece(row, column + 8 * (n + lane() / 16)));
}

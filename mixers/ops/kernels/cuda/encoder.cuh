// What the kernels of the relative position encoder have in common: a block takes ROWS lags, or parameters.
//
// Compiled with LAYERS (inner ones), PADDED (their width, or 32 or a power of two above it), ROWS (if lags, a divisor of 128),
// WARPS, ACROSS (of them, those that take different rows, in `dactive` and `dparameters`), ALIGNED (whether rows of
// parameters have PADDED numbers and can be read four at a time) and FAR (whether there may be lags where all decays are
// zero in float32).

#pragma once
#include "lanes.cuh"

constexpr int TILES = ROWS / 16;
constexpr float LOG2_E = 1.44269504f;

INLINE int row_of(int tile, int below) { return 16 * tile + 8 * below + eighth(); }

// Four neighbours of a row of `width` numbers, and zeros behind it.
INLINE float4 load_four(const float* row, int column, int width) {
    if (ALIGNED) return __ldg((const float4*)(row + column));
    float4 four = {0, 0, 0, 0};
    if (column < width) four.x = row[column];
    if (column + 1 < width) four.y = row[column + 1];
    if (column + 2 < width) four.z = row[column + 2];
    if (column + 3 < width) four.w = row[column + 3];
    return four;
}

INLINE float2 load_two(const float* row, int column, int width) {
    if (ALIGNED) return *(const float2*)(row + column);
    return {column < width ? row[column] : 0, column + 1 < width ? row[column + 1] : 0};
}

// Two neighbours, of which either may have no place; or both at once, where they may be stored so.
INLINE void store_two(float* target, float one, float two, bool one_there, bool two_there, bool together) {
    if (together) {
        if (one_there) *(float2*)target = {one, two};
    } else {
        if (one_there) target[0] = one;
        if (two_there) target[1] = two;
    }
}

struct Inner {  // parameters: weights (P, P) of layers 1, 2, … L; biases (P,), from h_0 on; slopes (P,), which make h_0
    const float* of[2 * LAYERS + 2];
};

// Has numbers in the second-level cache when they are read, which much else has passed through since they last were.
// So many blocks ask together, of which this one is the `own`th.
INLINE void ask_for(const float* numbers, int count, int own, int blocks) {
    constexpr long long EACH_BLOCK = 32 * 32 * WARPS;  // a thread asks for 128 bytes
#pragma unroll 1
    for (long long i = own * EACH_BLOCK + 32 * threadIdx.x; i < count; i += blocks * EACH_BLOCK) prefetch(numbers + i);
}

// All blocks together.
INLINE void ask_for(const float* numbers, int count) { ask_for(numbers, count, blockIdx.x, gridDim.x); }

INLINE void ask_for(const Inner& inner, int width) {
#pragma unroll
    for (int i = 0; i < 2 * LAYERS + 2; i++) ask_for(inner.of[i], i < LAYERS ? width * width : width);
}

// The inner layers, forward and backward: a block takes its lags through all of them, and of each a warp has some columns.

#pragma once
#include "encoder.cuh"

constexpr int OWN = PADDED / 8 / WARPS;  // eights of a layer's columns that a warp has
constexpr float SMALLEST = 1e-8f;        // that n begins with

typedef float Hidden[OWN][TILES][4];  // of a layer: two columns, in a row and in the 8th after it

INLINE int column_of(int own) { return 8 * (own * WARPS + warp()) + 2 * quarter(); }

// Each warp's part of the scalar products of rows.
INLINE void put_products(float (&products)[ROWS][WARPS], const Hidden& a, const Hidden& b) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float sum = 0;
#pragma unroll
            for (int o = 0; o < OWN; o++)
                sum += a[o][t][2 * r] * b[o][t][2 * r] + a[o][t][2 * r + 1] * b[o][t][2 * r + 1];
            sum += __shfl_xor_sync(EVERY_LANE, sum, 1);
            sum += __shfl_xor_sync(EVERY_LANE, sum, 2);
            if (quarter() == 0) products[row_of(t, r)][warp()] = sum;
        }
}

// The whole of one.
INLINE float product_of(const float (&products)[ROWS][WARPS], int row) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += products[row][w];
    return sum;
}

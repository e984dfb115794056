// Products of float32 numbers on tensor cores, for gradients, which have all sizes: a number is v_1 + v_2, of TF32, and a
// product v_1 w_1 + v_1 w_2 + v_2 w_1, some 21 bits. In which order a product adds is free, if both operands have the same.
//
// Tensor cores round toward zero whenever they add: on an H200, sums over 32,768 lags without decay, of terms of one sign,
// are off by up to 6e-6, and over 262,143 by 4e-5.

#pragma once
#include "encoder.cuh"

constexpr int EIGHTS = PADDED / 8;  // of columns

struct Pair {  // of TF32, which is a float32 number's upper 19 bits
    word first, second;
};

INLINE Pair split(float number) {
    const word all = __float_as_uint(number);
    return {all, __float_as_uint(number - __uint_as_float(all & 0xffffe000))};
}

// Sums (16, 8) += a (16, 8) b (8, 8).
INLINE void multiply(float (&sums)[4], const Pair (&a)[4], const Pair (&b)[2]) {
    multiply_tf32(sums, {a[0].second, a[1].second, a[2].second, a[3].second}, b[0].first, b[1].first);
    multiply_tf32(sums, {a[0].first, a[1].first, a[2].first, a[3].first}, b[0].second, b[1].second);
    multiply_tf32(sums, {a[0].first, a[1].first, a[2].first, a[3].first}, b[0].first, b[1].first);
}

// Of a row of parameters or of u, the columns that a lane has, one of every eight: column EIGHTS * i + k is the ith of
// eight k, so that they are neighbours.
INLINE void fetch_row(float (&numbers)[EIGHTS], const float* row, int width) {
#pragma unroll
    for (int k = 0; k < EIGHTS; k += 4) {
        const float4 four = load_four(row, eighth() * EIGHTS + k, width);
        numbers[k] = four.x, numbers[k + 1] = four.y, numbers[k + 2] = four.z, numbers[k + 3] = four.w;
    }
}

// Warps whose numbers are equal modulo `across` sum what they have, which the first of them then has: by way of `parts`,
// where half the warps have room.
template <int COUNT>
INLINE void sum_warps(float (&numbers)[COUNT], float* parts, int across) {
#pragma unroll
    for (int half = WARPS / 2; half; half /= 2) {
        if (half < across) continue;
        float* const part = parts + warp() % half * COUNT * 32 + lane();
        if (warp() >= half && warp() < 2 * half)
#pragma unroll
            for (int i = 0; i < COUNT; i++) part[32 * i] = numbers[i];
        __syncthreads();
        if (warp() < half)
#pragma unroll
            for (int i = 0; i < COUNT; i++) numbers[i] += part[32 * i];
        __syncthreads();
    }
}

// A row's sums, of columns that are there; where none is padded, rows begin at multiples of four numbers.
INLINE void store_row(float* target, const float (*sums)[4], int below, int width) {
#pragma unroll
    for (int c = 0; c < 2; c++)
#pragma unroll
        for (int i = 0; i < EIGHTS; i += 4) {
            const int column = (2 * quarter() + c) * EIGHTS + i, own = 2 * below + c;
            if (ALIGNED)
                *(float4*)(target + column) = {sums[i][own], sums[i + 1][own], sums[i + 2][own], sums[i + 3][own]};
            else
#pragma unroll
                for (int k = 0; k < 4; k++)
                    if (column + k < width) target[column + k] = sums[i + k][own];
        }
}

// Products of float32 numbers on tensor cores, for the encoder's kernels.
//
// A number v / scale is held as two of float16, v_1 + v_2 / REST, and a product is v_1 w_1 + (v_1 w_2 + v_2 w_1) / REST:
// some 22 bits. Scales are powers of two: one a row of parameters, whose numbers are rounded to 1e-11 of its largest, and
// 1 / REST for ReLU(u), which is at most sqrt(P), and rounded to 1e-14. Either operand is made of rows of PADDED numbers, of
// which a lane has a quarter, four of every 16: the order in which a product adds is free, if both operands have the same.

#pragma once
#include "encoder.cuh"
#include "scales.cuh"

constexpr int EACH = PADDED / 4, WORDS = EACH / 2, STEPS = PADDED / 16;  // numbers of a row a lane, in pairs, in fours
constexpr float REST = 2048;  // times what float16 leaves, which is as large then; ReLU(u) of P = 512 still fits

struct Row {  // a lane's quarter of it, in pairs
    word first[WORDS], second[WORDS];
};

struct Rows {  // of one and of the 8th after it, in the order of tensor cores
    uint4 first[STEPS], second[STEPS];
};

INLINE void split(word& first, word& second, float one, float two) {
    first = pack(one, two);
    second = pack((one - low(first)) * REST, (two - high(first)) * REST);
}

// A quarter of a row of parameters, of which there are `rows` of `width`, and zeros behind them. Where none is padded, the
// last row stands for those that are missing, so that there is no branch; nobody uses it.
INLINE void fetch(float (&numbers)[EACH], const float* parameters, int row, int rows, int width) {
    const float* const own = parameters + (long long)(ALIGNED ? min(row, rows - 1) : row) * width;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int column = 16 * step + 4 * quarter();
        float4 four = {0, 0, 0, 0};
        if (ALIGNED || row < rows) four = load_four(own, column, width);
        float* const found = numbers + 4 * step;
        found[0] = four.x, found[1] = four.y, found[2] = four.z, found[3] = four.w;
    }
}

// What was fetched, over its scale. Returned is what a product with ReLU(u) is to be multiplied by.
INLINE float scaled(Row& row, const float (&numbers)[EACH]) {
    float most = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) most = fmaxf(most, fabsf(numbers[i]));
    most = fmaxf(most, __shfl_xor_sync(EVERY_LANE, most, 1));
    most = fmaxf(most, __shfl_xor_sync(EVERY_LANE, most, 2));
    const float scale = power_of_two(__float_as_uint(most)), factor = inverse(scale);
#pragma unroll
    for (int i = 0; i < WORDS; i++)
        split(row.first[i], row.second[i], numbers[2 * i] * factor, numbers[2 * i + 1] * factor);
    return scale / REST;
}

struct Sums {  // (16, 8): of two columns, in a row and in the 8th after it
    float of[4];
};

INLINE void multiply(Sums& sums, uint4 a, const word* b) {
    multiply(sums.of[0], sums.of[1], sums.of[2], sums.of[3], a, b[0], b[1]);
}

// 16 rows times 8.
INLINE Sums product(const Rows& a, const Row& b) {
    Sums sums = {}, rests = {}, others = {};
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        multiply(sums, a.first[step], b.first + 2 * step);
        multiply(rests, a.first[step], b.second + 2 * step);
        multiply(others, a.second[step], b.first + 2 * step);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) sums.of[k] += (rests.of[k] + others.of[k]) * (1 / REST);
    return sums;
}

// Where words of ReLU(u) stand that a lane of `channels` reads: four steps' of an eight of lags, first or second ones.
INLINE int place(int eight, int second, int column) {
    const int in_turn = column / 16 * 2 + column % 4 / 2;
    return ((eight * 2 + second) * (WORDS / 4) + in_turn / 4) * 128 + 4 * (column / 4 % 4) + in_turn % 4;
}

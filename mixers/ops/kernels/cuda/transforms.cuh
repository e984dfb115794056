// Transforms of one tile, 16 rows of frequencies g and the columns of COUNT sequences. Between the matrices from the
// left, which read shared memory, it stays in registers: what a product of tensor cores gives has the layout that the
// next one takes on its left.

#pragma once
#include "left.cuh"

constexpr int PIECES = COLUMNS / 8;  // of 8 columns, a sequence
constexpr float SHARE = CHUNKS == 4 ? 0.5f : CHUNKS == 2 ? 0.70710678f : 1;  // with which numbers keep their size across

INLINE float2 times(float2 a, float2 b) { return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x}; }
INLINE float2 times_conjugate(float2 a, float2 b) { return times({b.x, -b.y}, a); }

// Multiply by e(b (g + 1/4) / P), or its conjugate, and by `size`. factors: (ROWS, 6) for b = 0, 2, 4, 6, 1, 8.
template <int COUNT, bool CONJUGATE>
INLINE void turn(
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

// (re, im), two halves of 8 columns, += a (16, 16) b (16, 16), of complex numbers.
INLINE void multiply_pair(float (*re)[4], float (*im)[4], const Pair& a, const Pair& b) {
    const uint4 minus = negative(b.im);
    multiply(re[0], a.re, b.re.x, b.re.y);
    multiply(im[0], a.re, b.im.x, b.im.y);
    multiply(re[1], a.re, b.re.z, b.re.w);
    multiply(im[1], a.re, b.im.z, b.im.w);
    multiply(re[0], a.im, minus.x, minus.y);
    multiply(im[0], a.im, b.re.x, b.re.y);
    multiply(re[1], a.im, minus.z, minus.w);
    multiply(im[1], a.im, b.re.z, b.re.w);
}

INLINE void sum_and_difference(float& a, float& b) {
    const float difference = a - b;
    a += b;
    b = difference;
}

// Of each row and column of a chunk, the transform over chunks: chunk h becomes the sum over c of e(c h / CHUNKS) times
// chunk c, or of conjugates.
template <int COUNT, bool CONJUGATE>
INLINE void across(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4]) {
#pragma unroll
    for (int i = 0; i < COUNT * 8; i++) {
        const int n = i / 8 * PIECES + i / 4 % 2, k = i % 4;  // a chunk is two pieces
        if (CHUNKS == 2) {
            sum_and_difference(re[n][k], re[n + 2][k]);
            sum_and_difference(im[n][k], im[n + 2][k]);
        } else if (CHUNKS == 4) {
            float &re_1 = re[n + 2][k], &re_3 = re[n + 6][k], &im_1 = im[n + 2][k], &im_3 = im[n + 6][k];
            sum_and_difference(re[n][k], re[n + 4][k]);
            sum_and_difference(im[n][k], im[n + 4][k]);
            sum_and_difference(re_1, re_3);
            sum_and_difference(im_1, im_3);
            sum_and_difference(re[n][k], re_1);
            sum_and_difference(im[n][k], im_1);
            // what has come to stand in 1 belongs in 2; in 1 and 3, what stands in 2 minus and plus i times 3
            const float re_2 = re_1, im_2 = im_1;
            const float to_re = CONJUGATE ? -im_3 : im_3, to_im = CONJUGATE ? re_3 : -re_3;
            re_1 = re[n + 4][k] + to_re;
            im_1 = im[n + 4][k] + to_im;
            re_3 = re[n + 4][k] - to_re;
            im_3 = im[n + 4][k] - to_im;
            re[n + 4][k] = re_2;
            im[n + 4][k] = im_2;
        }
    }
}

// (re, im), (16, 16) a sequence, += a chunk of a tile times its matrix from the right.
template <int COUNT>
INLINE void from_right(
    float (&re)[COUNT][2][4], float (&im)[COUNT][2][4], const Pair (&tile)[COUNT * CHUNKS], Table right, int chunk) {
    const Pair e = pair(right, chunk);
#pragma unroll
    for (int s = 0; s < COUNT; s++) multiply_pair(re[s], im[s], tile[s * CHUNKS + chunk], e);
}

// A chunk of (re, im) += its frequencies times the conjugate of its matrix, transposed.
template <int COUNT>
INLINE void back_from_right(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4],
                            const Pair (&frequencies)[COUNT], Table right, int chunk) {
    const Pair e = conjugate(pair(right, CHUNKS + chunk));
#pragma unroll
    for (int s = 0; s < COUNT; s++) {
        const int n = s * PIECES + 2 * chunk;
        multiply_pair(re + n, im + n, frequencies[s], e);
    }
}

// A tile once it is turned and transformed across, as operands of the matrices from the right.
template <int COUNT>
INLINE void operands(
    Pair (&tile)[COUNT * CHUNKS], const float (&re)[COUNT * PIECES][4], const float (&im)[COUNT * PIECES][4]) {
#pragma unroll
    for (int step = 0; step < COUNT * CHUNKS; step++)
        tile[step] = {operand(re[2 * step], re[2 * step + 1]), operand(im[2 * step], im[2 * step + 1])};
}

// A tile of F x before the matrices from the right, from what `spread` made of a group of sequences.
INLINE void begin(Pair (&tile)[4], Table left, const float2* factors, word sequences, int index) {
    float re[8][4] = {}, im[8][4] = {};
    from_left<8, false>(re, im, left, sequences, index);
    turn<SEQUENCES, false>(re, im, factors, index, SHARE);
    across<SEQUENCES, false>(re, im);
    operands<SEQUENCES>(tile, re, im);
}

// A tile before the matrix from the left, or its last step, times `size`, into z.
template <int COUNT>
INLINE void keep(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4], Table back, const float2* factors,
                 char* z, int index, float size = 1) {
    across<COUNT, true>(re, im);
    turn<COUNT, true>(re, im, factors, index, size * SHARE);
    if (TWO_STEPS) __syncwarp();  // until all lanes have read what stands there
    put<COUNT * PIECES>(re, im, z, index);
    if (TWO_STEPS) inner_back(back, z, index);
}

// Where a lane's frequencies of a tile and chunk begin; those of 8 columns further on stand 32 lanes away.
INLINE long long place(int channel, int tile, int chunk) {
    return (((long long)channel * TILES + tile) * CHUNKS + chunk) * 64 + lane();
}

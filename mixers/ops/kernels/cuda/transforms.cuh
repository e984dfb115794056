// Transforms of one tile, 16 rows of frequencies g and the columns of COUNT sequences, without leaving registers: what a
// product of tensor cores gives has the layout that the next one takes on its left. Only the last product, over all g,
// reads shared memory.

#pragma once
#include "registers.cuh"

constexpr int PIECES = COLUMNS / 8;  // of 8 columns, a sequence
constexpr float SHARE = CHUNKS == 4 ? 0.5f : CHUNKS == 2 ? 0.70710678f : 1;  // with which numbers keep their size across

struct Pair {
    uint4 re, im;
};

typedef const uint4* Table;  // of pairs of left operands (16, 16), or of right ones (16, 16)

INLINE Pair pair(Table table, int index) {
    const uint4* lanes = table + 64 * index + lane();
    return {__ldg(lanes), __ldg(lanes + 32)};
}

// (re, im) += the matrix from the left times x, or i x.
template <int COUNT, bool TIMES_I>
INLINE void from_left(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4], Table left, word x, int tile) {
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

INLINE float2 times(float2 a, float2 b) { return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x}; }

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
            const float re_2 = re_1, im_2 = im_1;  // chunk 2; chunks 1 and 3 are chunk 2's place -+ i times chunk 3's
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
    const Pair e = pair(right, CHUNKS + chunk), conjugate = {e.re, negative(e.im)};
#pragma unroll
    for (int s = 0; s < COUNT; s++) {
        const int n = s * PIECES + 2 * chunk;
        multiply_pair(re + n, im + n, frequencies[s], conjugate);
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

// A tile of F x before the matrices from the right, from a group of sequences in shared memory.
INLINE void begin(Pair (&tile)[4], Table left, const float2* factors, word x, int index) {
    float re[8][4] = {}, im[8][4] = {};
    from_left<SEQUENCES, false>(re, im, left, x, index);
    turn<SEQUENCES, false>(re, im, factors, index, SHARE);
    across<SEQUENCES, false>(re, im);
    operands<SEQUENCES>(tile, re, im);
}

// A tile before the last product, times `size`, into a matrix (2, ROWS, 64): real and imaginary parts.
template <int COUNT>
INLINE void keep(float (&re)[COUNT * PIECES][4], float (&im)[COUNT * PIECES][4], const float2* factors, char* matrix,
                 int index, float size = 1) {
    across<COUNT, true>(re, im);
    turn<COUNT, true>(re, im, factors, index, size * SHARE);
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
INLINE void finish(float (&y)[COUNT][WIDTH][4], Table back, word matrix, int first) {
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
INLINE long long place(int channel, int tile, int chunk) {
    return (((long long)channel * TILES + tile) * CHUNKS + chunk) * 64 + lane();
}

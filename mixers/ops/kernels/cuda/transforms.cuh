// Transforms of one tile, 16 rows of frequencies g and the columns of COUNT sequences. Between the matrices from the
// left, which read shared memory, it stays in registers: what a product of tensor cores gives has the layout that the
// next one takes on its left.

#pragma once
#include "left.cuh"

constexpr int PIECES = COLUMNS / 8;  // of 8 columns, a sequence

// e(b (g + 1/4) / P) / sqrt(CHUNKS) as lanes read them, of TILES and PIECES: of two columns of a row and of the 8th
// after it. Numbers keep their size across chunks, as factors are small.
typedef const uint4* Factors;

INLINE void read_factors(Complex<Narrow> (&w)[2], Factors factors, int piece) {
    const uint4 bits = __ldg(factors + 32 * piece + lane());
    w[0] = {bits.x, bits.y};
    w[1] = {bits.z, bits.w};
}

INLINE void read_factors(Complex<Wide> (&w)[2], Factors factors, int piece) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint4 bits = __ldg(factors + 64 * piece + 32 * r + lane());
        w[r].re = {__uint_as_float(bits.x), __uint_as_float(bits.y)};
        w[r].im = {__uint_as_float(bits.z), __uint_as_float(bits.w)};
    }
}

// Multiply by factors, or their conjugates.
template <int COUNT, bool CONJUGATE>
INLINE void turn(Piece<Two> (&re)[COUNT * PIECES], Piece<Two> (&im)[COUNT * PIECES], Factors factors, int tile) {
#pragma unroll
    for (int n = 0; n < PIECES; n++) {
        Complex<Two> w[2];
        read_factors(w, factors, tile * PIECES + n);
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int s = 0; s < COUNT; s++) {
                Two &a = re[s * PIECES + n].rows[r], &b = im[s * PIECES + n].rows[r];
                const Complex<Two> turned = Complex<Two>{a, b} * (CONJUGATE ? conjugate(w[r]) : w[r]);
                a = turned.re, b = turned.im;
            }
    }
}

// (re, im), two halves of 8 columns, += a (16, 16) b (16, 16), of complex numbers.
template <class T>
INLINE void multiply_pair(Piece<T>* re, Piece<T>* im, const Pair& a, const Pair& b) {
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

INLINE void sum_and_difference(Two& a, Two& b) {
    const Two difference = a - b;
    a = a + b;
    b = difference;
}

// Of each row and column of a chunk, the transform over chunks: chunk h becomes the sum over c of e(c h / CHUNKS) times
// chunk c, or of conjugates.
template <int COUNT, bool CONJUGATE>
INLINE void across(Piece<Two> (&re)[COUNT * PIECES], Piece<Two> (&im)[COUNT * PIECES]) {
#pragma unroll
    for (int i = 0; i < COUNT * 4; i++) {
        const int n = i / 4 * PIECES + i / 2 % 2, r = i % 2;  // a chunk is two pieces
        if (CHUNKS == 2) {
            sum_and_difference(re[n].rows[r], re[n + 2].rows[r]);
            sum_and_difference(im[n].rows[r], im[n + 2].rows[r]);
        } else if (CHUNKS == 4) {
            Two &re_0 = re[n].rows[r], &re_1 = re[n + 2].rows[r], &re_2 = re[n + 4].rows[r], &re_3 = re[n + 6].rows[r];
            Two &im_0 = im[n].rows[r], &im_1 = im[n + 2].rows[r], &im_2 = im[n + 4].rows[r], &im_3 = im[n + 6].rows[r];
            sum_and_difference(re_0, re_2);
            sum_and_difference(im_0, im_2);
            sum_and_difference(re_1, re_3);
            sum_and_difference(im_1, im_3);
            sum_and_difference(re_0, re_1);
            sum_and_difference(im_0, im_1);
            // what has come to stand in 1 belongs in 2; in 1 and 3, what stands in 2 minus and plus i times 3
            const Two re_of_2 = re_1, im_of_2 = im_1, re_of_3 = re_3, im_of_3 = im_3;
            re_1 = CONJUGATE ? re_2 - im_of_3 : re_2 + im_of_3;
            im_1 = CONJUGATE ? im_2 + re_of_3 : im_2 - re_of_3;
            re_3 = CONJUGATE ? re_2 + im_of_3 : re_2 - im_of_3;
            im_3 = CONJUGATE ? im_2 - re_of_3 : im_2 + re_of_3;
            re_2 = re_of_2, im_2 = im_of_2;
        }
    }
}

// (re, im), (16, 16) a sequence, += a chunk of a tile times its matrix from the right.
template <int COUNT, class T>
INLINE void from_right(
    Piece<T> (&re)[COUNT][2], Piece<T> (&im)[COUNT][2], const Pair (&tile)[COUNT * CHUNKS], Table right, int chunk) {
    const Pair e = pair(right, chunk);
#pragma unroll
    for (int s = 0; s < COUNT; s++) multiply_pair(re[s], im[s], tile[s * CHUNKS + chunk], e);
}

// A chunk of (re, im) += its frequencies times the conjugate of its matrix, transposed.
template <int COUNT>
INLINE void back_from_right(Piece<Two> (&re)[COUNT * PIECES], Piece<Two> (&im)[COUNT * PIECES],
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
    Pair (&tile)[COUNT * CHUNKS], const Piece<Two> (&re)[COUNT * PIECES], const Piece<Two> (&im)[COUNT * PIECES]) {
#pragma unroll
    for (int step = 0; step < COUNT * CHUNKS; step++)
        tile[step] = {operand(re[2 * step], re[2 * step + 1]), operand(im[2 * step], im[2 * step + 1])};
}

// A tile of F x before the matrices from the right, from what `spread` made of a group of sequences.
INLINE void begin(Pair (&tile)[4], Table left, Factors factors, word sequences, int index) {
    Piece<Two> re[8] = {}, im[8] = {};
    from_left<8, false>(re, im, left, sequences, index);
    turn<SEQUENCES, false>(re, im, factors, index);
    across<SEQUENCES, false>(re, im);
    operands<SEQUENCES>(tile, re, im);
}

// A tile before the matrix from the left, or its last step, into z.
template <int COUNT>
INLINE void keep(Piece<Two> (&re)[COUNT * PIECES], Piece<Two> (&im)[COUNT * PIECES], Table back, Factors factors,
                 char* z, int index) {
    across<COUNT, true>(re, im);
    turn<COUNT, true>(re, im, factors, index);
    put<COUNT * PIECES>(re, im, z, index);
    if (TWO_STEPS) inner_back(back, z, index);
}

// Where a lane's frequencies of a tile and chunk begin; those of 8 columns further on stand 32 lanes away.
INLINE long long place(int channel, int tile, int chunk) {
    return (((long long)channel * TILES + tile) * CHUNKS + chunk) * 64 + lane();
}

// The matrix from the left and its transpose: at once where there are few rows, and for numbers that are exacter than
// bfloat16, since z is rounded to float16; else in two steps. With a = 16 p + q and g = u + OUTER v (p, u < OUTER;
// q, v < 16),
//
//     sum over a of e(a (g + 1/4) / ROWS) x[a]
//         = sum over q of e(q (g + 1/4) / ROWS) sum over p of e(p (u + 1/4) / OUTER) x[16 p + q],
//
// an outer matrix for the rows of each q, then an inner matrix (16, 16) for each tile u, whose rows are v. Between them
// stands z, with rows 16 u + q, of real parts in the place of x and of imaginary parts behind them. On the way back z
// has the same rows; or, where there is no second step, those of a tile's imaginary parts behind its real ones.

#pragma once
#include "registers.cuh"

struct Pair {
    uint4 re, im;
};

typedef const uint4* Table;  // of left operands (16, 16), or of pairs of them or of right ones

INLINE Pair pair(Table table, int index) {
    const uint4* lanes = table + 64 * index + lane();
    return {__ldg(lanes), __ldg(lanes + 32)};
}

INLINE Pair conjugate(const Pair& a) { return {a.re, negative(a.im)}; }

constexpr int OUTER = ROWS / 16;
constexpr int TILE_ROWS = TWO_STEPS ? 16 : 32;            // of z, a tile
constexpr int IMAGINARY = TWO_STEPS ? MATRIX : 16 * 128;  // bytes behind real parts
constexpr bool SMALL = TWO_STEPS && OUTER == 8;  // then u has half a tile, and its real and imaginary parts share one
constexpr int P_TILES = OUTER < 16 ? 1 : OUTER / 16;
constexpr int U_TILES = OUTER < 16 ? 1 : OUTER / 8;  // of real and imaginary parts in turns
constexpr int OUTER_TABLE = 32 * P_TILES * U_TILES;  // the inner matrices stand behind the outer one

// Rows that a warp makes of the transpose together, in tiles of 16: those of one q, or neighbours.
constexpr int UNITS = TWO_STEPS ? 16 : ROWS / 32;
constexpr int UNIT_ROWS = ROWS / UNITS, UNIT_TILES = TWO_STEPS ? P_TILES : 2;

INLINE int row_of(int unit, int i) { return TWO_STEPS ? 16 * i + unit : 32 * unit + i; }

// At once: (re, im) += the matrix times x, or i x. A tile of 16 rows, and EIGHTS pieces of 8 columns.
template <int EIGHTS, bool TIMES_I>
INLINE void at_once(Piece<Two> (&re)[EIGHTS], Piece<Two> (&im)[EIGHTS], Table left, word x, int tile) {
#pragma unroll 8
    for (int step = 0; step < TILES; step++) {
        const Pair a = pair(left, tile * TILES + step);
        const uint4 to_re = TIMES_I ? negative(a.im) : a.re, to_im = TIMES_I ? a.re : a.im;
        word b[2 * EIGHTS];
        right_operands<EIGHTS>(b, x, 16 * step + lane() % 16);
#pragma unroll
        for (int n = 0; n < EIGHTS; n++) {
            multiply(re[n], to_re, b[2 * n], b[2 * n + 1]);
            multiply(im[n], to_im, b[2 * n], b[2 * n + 1]);
        }
    }
}

// The first step: z = the outer matrix times the x that stands there, by all warps, for which z is ready when this
// returns.
template <int WARPS>
INLINE void outer(Table left, char* z) {
#pragma unroll 1
    for (int part = warp(); part < 32; part += WARPS) {
        const int q = part / 2, column = part % 2 * 32;
        word b[P_TILES][8];
#pragma unroll
        for (int step = 0; step < P_TILES; step++)  // where u has half a tile, so has p: zeros meet the other half
            right_operands<4>(b[step], shared_address(z), (16 * step + lane() % 16) % OUTER * 16 + q, column);
        __syncwarp();  // until all lanes have read what stands there
#pragma unroll
        for (int tile = 0; tile < U_TILES; tile++) {
            Piece<Two> sums[4] = {};
#pragma unroll
            for (int step = 0; step < P_TILES; step++) {
                const uint4 a = __ldg(left + 32 * (tile * P_TILES + step) + lane());
#pragma unroll
                for (int n = 0; n < 4; n++) multiply(sums[n], a, b[step][2 * n], b[step][2 * n + 1]);
            }
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const int imaginary = SMALL ? r : tile % 2, u = lane() / 4 + (SMALL ? 0 : tile / 2 * 16 + 8 * r);
#pragma unroll
                for (int n = 0; n < 4; n++)
                    *(word*)(z + imaginary * IMAGINARY + piece(16 * u + q, column + 8 * n) + 4 * (lane() % 4)) =
                        packed(sums[n].rows[r]);
            }
        }
    }
    __syncthreads();
}

// The second step: (re, im), 4 pieces of 8 columns, += an inner matrix times those of a tile of z.
INLINE void inner(Piece<Two>* re, Piece<Two>* im, const Pair& a, word z, int tile, int column) {
    const uint4 minus = negative(a.im);
    word x[8], y[8];
    right_operands<4>(x, z, 16 * tile + lane() % 16, column);
    right_operands<4>(y, z + IMAGINARY, 16 * tile + lane() % 16, column);
#pragma unroll
    for (int n = 0; n < 4; n++) {
        multiply(re[n], a.re, x[2 * n], x[2 * n + 1]);
        multiply(im[n], a.re, y[2 * n], y[2 * n + 1]);
        multiply(re[n], minus, y[2 * n], y[2 * n + 1]);
        multiply(im[n], a.im, x[2 * n], x[2 * n + 1]);
    }
}

// What `from_left` reads of the sequences in `x`, behind which two steps need room as large. All warps take part.
template <int WARPS>
INLINE word spread(Table left, char* x) {
    if constexpr (TWO_STEPS) outer<WARPS>(left, x);
    return shared_address(x);
}

// A tile of the matrix from the left times sequences, or i times them, which are spread; EIGHTS is 8 in two steps.
template <int EIGHTS, bool TIMES_I>
INLINE void from_left(Piece<Two> (&re)[EIGHTS], Piece<Two> (&im)[EIGHTS], Table left, word sequences, int tile) {
    if (!TWO_STEPS) return at_once<EIGHTS, TIMES_I>(re, im, left, sequences, tile);
    Pair a = pair(left + OUTER_TABLE, tile);
    if (TIMES_I) a = {negative(a.im), a.re};
#pragma unroll
    for (int n = 0; n < EIGHTS; n += 4) inner(re + n, im + n, a, sequences, tile, 8 * n);
}

// Wait until what a product is to write over has been read by all that read it.
INLINE void wait_for_readers() {
    if (TWO_STEPS)
        __syncwarp();  // it writes rows that no other warp reads
    else if (IN_PLACE)
        __syncthreads();
}

// A tile of EIGHTS pieces of 8 columns into z.
template <int EIGHTS>
INLINE void put(const Piece<Two>* re, const Piece<Two>* im, char* z, int tile, int column = 0) {
#pragma unroll
    for (int n = 0; n < EIGHTS; n++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int place = piece(TILE_ROWS * tile + lane() / 4, column + 8 * n) + 8 * r * 128 + 4 * (lane() % 4);
            *(word*)(z + place) = packed(re[n].rows[r]);
            *(word*)(z + IMAGINARY + place) = packed(im[n].rows[r]);
        }
}

// The first step back: a tile of z becomes the conjugate of its inner matrix, transposed, times what it was.
INLINE void inner_back(Table back, char* z, int tile) {
    const Pair a = conjugate(pair(back + OUTER_TABLE, tile));
    __syncwarp();
#pragma unroll
    for (int column = 0; column < 64; column += 32) {
        Piece<Two> re[4] = {}, im[4] = {};
        inner(re, im, a, shared_address(z), tile, column);
        __syncwarp();
        put<4>(re, im, z, tile, column);
    }
}

// The last step back: the real part of the rows of a unit.
template <int EIGHTS>
INLINE void finish(Piece<Wide> (&y)[UNIT_TILES][EIGHTS], Table back, word z, int unit) {
#pragma unroll 8
    for (int step = 0; step < (TWO_STEPS ? U_TILES : 2 * TILES); step++) {
        const int i = lane() % 16;
        int row = TILE_ROWS * (step / 2) + i, imaginary = step % 2;  // a step takes 16 of the rows of one part
        if (SMALL) row = i % 8, imaginary = i / 8;                   // or 8 of both
        if (TWO_STEPS) row = 16 * row + unit;
        word b[2 * EIGHTS];
        right_operands<EIGHTS>(b, z + imaginary * IMAGINARY, row);
#pragma unroll
        for (int t = 0; t < UNIT_TILES; t++) {
            const int tile = TWO_STEPS ? t * U_TILES : (2 * unit + t) * 2 * TILES;
            const uint4 a = __ldg(back + 32 * (tile + step) + lane());
#pragma unroll
            for (int n = 0; n < EIGHTS; n++) multiply(y[t][n], a, b[2 * n], b[2 * n + 1]);
        }
    }
}

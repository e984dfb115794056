// F dy conj(F x), from which the gradient by the coefficients comes.

#pragma once
#include "transforms.cuh"

// A chunk of it, by halves of 8 columns, and rows.
INLINE void correlate_chunk(Complex<Wide> (&products)[SEQUENCES][2][2], const Pair (&of_x)[4], const Pair (&of_dy)[4],
                            Table right, int chunk) {
    Piece<Two> a[SEQUENCES][2] = {}, b[SEQUENCES][2] = {}, c[SEQUENCES][2] = {}, d[SEQUENCES][2] = {};
    from_right<SEQUENCES>(a, b, of_x, right, chunk);
    from_right<SEQUENCES>(c, d, of_dy, right, chunk);
#pragma unroll
    for (int s = 0; s < SEQUENCES; s++)
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const Complex<Wide> x = {wide(a[s][h].rows[r]), wide(b[s][h].rows[r])};
                const Complex<Wide> dy = {wide(c[s][h].rows[r]), wide(d[s][h].rows[r])};
                products[s][h][r] = dy * conjugate(x);
            }
}

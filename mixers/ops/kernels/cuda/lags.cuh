// The last step of the gradient by the coefficients, of lags lowest .. lowest + lags - 1.

#pragma once
#include "transforms.cuh"

// Frequencies whose transform back is real, of lags 0 and up; or, of a lag below 0, which is imaginary, at P + lag.
INLINE Pair of_lags(const Pair& frequencies, bool below) {
    return {below ? frequencies.im : frequencies.re, below ? negative(frequencies.re) : frequencies.im};
}

// From z, times `size`.
template <int WARPS>
INLINE void store_lags(float* dt, Table back, word z, int lags, int lowest, bool below, float size) {
    const int shift = below ? -PERIOD - lowest : -lowest, end = below ? -lowest : lags;
    const bool pairs = lags % 2 == 0 && lowest % 2 == 0;  // whether two may be stored at once
#pragma unroll 1
    for (int unit = warp(); unit < UNITS; unit += WARPS) {
        Piece<Wide> y[UNIT_TILES][PIECES] = {};
        finish<PIECES>(y, back, z, unit);
#pragma unroll
        for (int t = 0; t < UNIT_TILES; t++)
#pragma unroll
            for (int n = 0; n < PIECES; n++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int row = row_of(unit, 16 * t + 8 * r + lane() / 4);
                    const int lag = row * COLUMNS + 8 * n + 2 * (lane() % 4) + shift;
                    const Wide result = y[t][n].rows[r] * both(ROOT) * both(size);
                    if (pairs && lag >= 0 && lag < end) {
                        *(float2*)(dt + lag) = {result.one, result.two};
                    } else {
                        if (lag >= 0 && lag < end) dt[lag] = result.one;
                        if (lag >= -1 && lag < end - 1) dt[lag + 1] = result.two;
                    }
                }
    }
}

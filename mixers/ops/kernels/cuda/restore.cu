#include "transforms.cuh"

// The gradient by the coefficients, of lags lowest .. lowest + lags - 1, from the sums of `correlate`. A block for a
// channel, and a second one for the lags below 0.
extern "C" __global__ void __launch_bounds__(32 * PRODUCT_WARPS, 12 / PRODUCT_WARPS) restore(
    Table sums, const float* sizes, Table back, const float2* factors, Table right, float* dt, int lags, int lowest) {
    extern __shared__ __align__(128) char kept[];
    const int parts = lowest < 0 ? 2 : 1, channel = blockIdx.x / parts;
    const bool below = blockIdx.x % parts;
    sums += (long long)channel * TILES * CHUNKS * 64;
    sizes += (long long)channel * TILES;
    float size = 0;  // the largest, a power of two
    for (int tile = lane(); tile < TILES; tile += 32) size = fmaxf(size, sizes[tile]);
    size = __uint_as_float(__reduce_max_sync(EVERY_LANE, __float_as_uint(size)));
#pragma unroll 1
    for (int index = warp(); index < TILES; index += PRODUCT_WARPS) {
        float re[PIECES][4] = {}, im[PIECES][4] = {};
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const Pair sum = pair(sums, index * CHUNKS + chunk);  // of a lag below it is imaginary, at P + lag
            const Pair frequencies[1] = {{below ? sum.im : sum.re, below ? negative(sum.re) : sum.im}};
            back_from_right<1>(re, im, frequencies, right, chunk);
        }
        keep<1>(re, im, back, factors, kept, index, sizes[index] * inverse(size));
    }
    __syncthreads();
    const int shift = below ? -PERIOD - lowest : -lowest, end = below ? -lowest : lags;
    dt += (long long)channel * lags;
#pragma unroll 1
    for (int unit = warp(); unit < UNITS; unit += PRODUCT_WARPS) {
        float y[UNIT_TILES][PIECES][4] = {};
        finish<PIECES>(y, back, shared_address(kept), unit);
#pragma unroll
        for (int t = 0; t < UNIT_TILES; t++)
#pragma unroll
            for (int n = 0; n < PIECES; n++)
#pragma unroll
                for (int k = 0; k < (UNIT_ROWS == 8 ? 2 : 4); k++) {
                    const int row = row_of(unit, 16 * t + 8 * (k / 2) + lane() / 4);
                    const int lag = row * COLUMNS + 8 * n + 2 * (lane() % 4) + k % 2 + shift;
                    if (lag >= 0 && lag < end) dt[lag] = y[t][n][k] * ROOT * size;
                }
    }
}

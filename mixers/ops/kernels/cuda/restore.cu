#include "lags.cuh"
#include "transforms.cuh"

INLINE uint4 times(uint4 a, word factors) {
    return {times(a.x, factors), times(a.y, factors), times(a.z, factors), times(a.w, factors)};
}

// The gradient by the coefficients, of lags lowest .. lowest + lags - 1, from the sums of `correlate`. A block for a
// channel, and a second one for the lags below 0.
extern "C" __global__ void __launch_bounds__(32 * PRODUCT_WARPS, RESIDENT_WARPS / PRODUCT_WARPS) restore(
    Table sums, const float* sizes, Table back, Factors factors, Table right, float* dt, int lags, int lowest) {
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
        const float factor = sizes[index] * inverse(size);
        const word of_tile = pack(factor, factor);
        Piece<Two> re[PIECES] = {}, im[PIECES] = {};
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const Pair sum = pair(sums, index * CHUNKS + chunk);
            const Pair frequencies[1] = {of_lags({times(sum.re, of_tile), times(sum.im, of_tile)}, below)};
            back_from_right<1>(re, im, frequencies, right, chunk);
        }
        keep<1>(re, im, back, factors, kept, index);
    }
    __syncthreads();
    store_lags<PRODUCT_WARPS>(dt + (long long)channel * lags, back, shared_address(kept), lags, lowest, below, size);
}

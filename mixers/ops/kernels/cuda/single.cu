#include "lags.cuh"
#include "sequences.cuh"
#include "transforms.cuh"

constexpr int EACH = TILES / PRODUCT_WARPS;  // tiles a warp

INLINE int tile_of(int i) { return i * PRODUCT_WARPS + warp(); }

// F dy conj(F x) of one tile, as left operands in the place of F x, divided by the power of two that this returns.
INLINE float correlate_tile(Pair (&of_x)[4], const Pair (&of_dy)[4], Table right) {
    float size = 0, factor = 0;
#pragma unroll
    for (int pass = 0; pass < 2; pass++) {  // the first one seeks the largest number
        float most = 0;
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float a[1][2][4] = {}, b[1][2][4] = {}, c[1][2][4] = {}, d[1][2][4] = {};
            from_right<1>(a, b, of_x, right, chunk);
            from_right<1>(c, d, of_dy, right, chunk);
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    const float2 product = times_conjugate({c[0][h][k], d[0][h][k]}, {a[0][h][k], b[0][h][k]});
                    most = fmaxf(fmaxf(most, fabsf(product.x)), fabsf(product.y));
                    a[0][h][k] = product.x * factor;
                    b[0][h][k] = product.y * factor;
                }
            if (pass) of_x[chunk] = {operand(a[0][0], a[0][1]), operand(b[0][0], b[0][1])};
        }
        if (!pass) {
            size = power_of_two(__reduce_max_sync(EVERY_LANE, __float_as_uint(most)));
            factor = inverse(size);
        }
    }
    return size;
}

// The gradient by the coefficients of lags lowest .. lowest + lags - 1 where there is a single sequence a channel: what
// `correlate` and `restore` give for many, in one kernel. With `silu`, of SiLU(x). A block for a channel, and a second
// one for the lags below 0.
extern "C" __global__ void __launch_bounds__(32 * PRODUCT_WARPS, 8 / PRODUCT_WARPS) single(
    const number* x, const number* dy, Table left, Table back, const float2* factors, Table right, float* dt, int length,
    int lags, int lowest, int silu) {
    extern __shared__ __align__(128) char memory[];
    SHARED float sizes[2][1];
    SHARED word largest[1], largest_of_tiles;
    char* const kept = memory + MATRIX;
    const int parts = lowest < 0 ? 2 : 1, channel = blockIdx.x / parts;
    const bool below = blockIdx.x % parts;
    const long long start = (long long)channel * length;
    if (threadIdx.x == 0) largest_of_tiles = 0;
    Pair of_x[EACH][4];
    load<PRODUCT_WARPS>(x + start, 0, 1, length, memory, sizes[0], largest, silu);
    word from = spread<PRODUCT_WARPS>(left, memory);
#pragma unroll 1
    for (int i = 0; i < EACH; i++) begin(of_x[i], left, factors, from, tile_of(i));
    load<PRODUCT_WARPS>(dy + start, 0, 1, length, memory, sizes[1], largest);
    from = spread<PRODUCT_WARPS>(left, memory);
    float tile_sizes[EACH];
#pragma unroll 1
    for (int i = 0; i < EACH; i++) {
        Pair of_dy[4];
        begin(of_dy, left, factors, from, tile_of(i));
        tile_sizes[i] = correlate_tile(of_x[i], of_dy, right);
        if (lane() == 0) atomicMax(&largest_of_tiles, __float_as_uint(tile_sizes[i]));
    }
    __syncthreads();
    const float size = __uint_as_float(largest_of_tiles);
#pragma unroll 1
    for (int i = 0; i < EACH; i++) {
        float re[8][4] = {}, im[8][4] = {};
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const Pair frequencies[1] = {of_lags(of_x[i][chunk], below)};
            back_from_right<1>(re, im, frequencies, right, chunk);
        }
        keep<1>(re, im, back, factors, kept, tile_of(i), tile_sizes[i] * inverse(size));
    }
    __syncthreads();
    const float sequences = sizes[0][0] * sizes[1][0];  // each with `size` alone may overflow
    store_lags<PRODUCT_WARPS>(
        dt + (long long)channel * lags, back, shared_address(kept), lags, lowest, below, size * sequences);
}

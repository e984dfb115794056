#include "transforms.cuh"

constexpr int PARTS = NUMBER == 1 ? 1 : 2;  // of float16, that a coefficient is taken in
constexpr int EACH = PERIOD / (32 * SPECTRUM_WARPS);  // coefficients a thread
constexpr int TOGETHER = EACH < 32 ? EACH : 32, STEPS = EACH / TOGETHER;  // of them it reads so many at a time

INLINE int token_of(int step, int k) {  // two neighbours a thread
    return 2 * ((step * TOGETHER + k) / 2 * 32 * SPECTRUM_WARPS + threadIdx.x) + k % 2;
}

// Coefficients of lags 0 and up, or of lags below 0 at P + lag, as tokens; zeros beside them.
INLINE void gather(float (&v)[TOGETHER], const float* t, int stride, int step, bool below, int lags, int lowest) {
    const int shift = below ? -PERIOD - lowest : -lowest, end = below ? -lowest : lags;
#pragma unroll
    for (int k = 0; k < TOGETHER; k++) {
        const int lag = token_of(step, k) + shift;
        v[k] = lag >= 0 && lag < end ? t[(long long)lag * stride] : 0;
    }
}

// C / scale, and the scale, of coefficients of lags from `lowest` on. A block for a channel.
extern "C" __global__ void __launch_bounds__(32 * SPECTRUM_WARPS, 12 / SPECTRUM_WARPS) spectrum(
    const float* t, Table left, const float2* factors, Table right, uint4* values, float* scale, int channel_stride,
    int lag_stride, int lags, int lowest) {
    extern __shared__ __align__(128) char memory[];
    SHARED float totals[SPECTRUM_WARPS];
    const int channel = blockIdx.x;
    const bool both = lowest < 0, once = PARTS == 1 && !both;  // whether shared memory holds all coefficients
    t += (long long)channel * channel_stride;
    float total = 0;
    for (int below = 0; below <= both; below++)
        for (int step = 0; step < STEPS; step++) {
            float v[TOGETHER];
            gather(v, t, lag_stride, step, below, lags, lowest);
#pragma unroll
            for (int k = 0; k < TOGETHER; k++) total += fabsf(v[k]);
        }
    for (int other = 16; other; other /= 2) total += __shfl_xor_sync(EVERY_LANE, total, other);
    if (lane() == 0) totals[warp()] = total;
    __syncthreads();
    total = 0;
    for (int w = 0; w < SPECTRUM_WARPS; w++) total += totals[w];
    const float size = power_of_two(__float_as_uint(total / HEADROOM)), factor = inverse(size);
    if (threadIdx.x == 0) scale[channel] = size;

    word spread_t = 0;
#pragma unroll 1
    for (int index = warp(); index < TILES; index += SPECTRUM_WARPS) {
        float re[PIECES][4] = {}, im[PIECES][4] = {};
        for (int below = 0; below <= both; below++)
            for (int part = 0; part < PARTS; part++) {
                if (index < SPECTRUM_WARPS || !once) {
                    __syncthreads();
                    for (int step = 0; step < STEPS; step++) {
                        float v[TOGETHER];
                        gather(v, t, lag_stride, step, below, lags, lowest);
#pragma unroll
                        for (int k = 0; k < TOGETHER; k += 2) {
                            const int token = token_of(step, k), column = token % COLUMNS;
                            word packed = pack(v[k] * factor, v[k + 1] * factor);
                            if (part) packed = pack(v[k] * factor - low(packed), v[k + 1] * factor - high(packed));
                            *(word*)(memory + piece(token / COLUMNS, column) + 2 * (column % 8)) = packed;
                        }
                    }
                    __syncthreads();
                    spread_t = spread<SPECTRUM_WARPS>(left, memory);
                }
                for (int of_left = 0; of_left < PARTS - part; of_left++) {
                    Table of_part = left + of_left * 64 * TILES * TILES;
                    if (below)
                        from_left<PIECES, true>(re, im, of_part, spread_t, index);
                    else
                        from_left<PIECES, false>(re, im, of_part, spread_t, index);
                }
            }
        turn<1, false>(re, im, factors, index, SHARE);
        across<1, false>(re, im);
        Pair tile[CHUNKS], tile_rest[CHUNKS];
        operands<1>(tile, re, im);
#pragma unroll
        for (int n = 0; n < PIECES; n++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                re[n][k] = rest(re[n][k]);
                im[n][k] = rest(im[n][k]);
            }
        operands<1>(tile_rest, re, im);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float a[1][2][4] = {}, b[1][2][4] = {};
            from_right<1>(a, b, tile, right, chunk);
            if (PARTS == 2) {
                from_right<1>(a, b, tile_rest, right, chunk);
                from_right<1>(a, b, tile, right + 64 * 2 * CHUNKS, chunk);
            }
            uint4* target = values + place(channel, index, chunk);
#pragma unroll
            for (int h = 0; h < 2; h++)
                target[32 * h] = {
                    pack(a[0][h][0] * ROOT, b[0][h][0] * ROOT), pack(a[0][h][1] * ROOT, b[0][h][1] * ROOT),
                    pack(a[0][h][2] * ROOT, b[0][h][2] * ROOT), pack(a[0][h][3] * ROOT, b[0][h][3] * ROOT)};
        }
    }
}

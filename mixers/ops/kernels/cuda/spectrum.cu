#include "transforms.cuh"

constexpr int PARTS = NUMBER == 1 ? 1 : 2;  // of float16, that a coefficient is taken in
constexpr int EACH = PERIOD / (32 * SPECTRUM_WARPS);  // coefficients a thread
constexpr int MOST = NUMBER == 1 ? 64 : 32;  // it reads so many of them at a time
constexpr int TOGETHER = EACH < MOST ? EACH : MOST, STEPS = EACH / TOGETHER;

INLINE int token_of(int step, int k) {  // eight neighbours a thread
    return 8 * ((step * TOGETHER + k) / 8 * 32 * SPECTRUM_WARPS + threadIdx.x) + k % 8;
}

// Coefficients of lags 0 and up, or of lags below 0 at P + lag, as tokens; zeros beside them.
INLINE void gather(float (&v)[TOGETHER], const float* t, int stride, int step, bool below, int lags, int lowest) {
    const int shift = below ? -PERIOD - lowest : -lowest, end = below ? -lowest : lags;
#pragma unroll
    for (int k = 0; k < TOGETHER; k += 4) {
        const int lag = token_of(step, k) + shift;
        if (ALIGNED && lag >= 0 && lag + 4 <= end) {
            const uint4 four = *(const uint4*)(t + lag);
            v[k] = __uint_as_float(four.x), v[k + 1] = __uint_as_float(four.y);
            v[k + 2] = __uint_as_float(four.z), v[k + 3] = __uint_as_float(four.w);
        } else
#pragma unroll
            for (int i = k; i < k + 4; i++) {
                const int own = token_of(step, i) + shift;
                v[i] = own >= 0 && own < end ? t[(long long)own * stride] : 0;
            }
    }
}

// Coefficients times `factor` in float16, or what that leaves, into shared memory.
INLINE void put_coefficients(const float (&v)[TOGETHER], float factor, int part, int step, char* matrix) {
#pragma unroll
    for (int k = 0; k < TOGETHER; k += 8) {
        word words[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const Wide two = Wide{v[k + 2 * i], v[k + 2 * i + 1]} * both(factor);
            words[i] = packed(part ? rest(two) : two);
        }
        const int token = token_of(step, k);
        *(uint4*)(matrix + piece(token / COLUMNS, token % COLUMNS)) = {words[0], words[1], words[2], words[3]};
    }
}

// C / scale, and the scale, of coefficients of lags from `lowest` on. A block for a channel.
extern "C" __global__ void __launch_bounds__(32 * SPECTRUM_WARPS, RESIDENT_WARPS / SPECTRUM_WARPS) spectrum(
    const float* t, Table left, Factors factors, Table right, uint4* values, float* scale, int channel_stride,
    int lag_stride, int lags, int lowest) {
    extern __shared__ __align__(128) char memory[];
    SHARED float totals[SPECTRUM_WARPS];
    const int channel = blockIdx.x;
    const bool both_signs = lowest < 0, once = PARTS * STEPS == 1 && !both_signs;  // whether what was read is all
    t += (long long)channel * channel_stride;
    float total = 0, v[TOGETHER];
    for (int below = 0; below <= both_signs; below++)
        for (int step = 0; step < STEPS; step++) {
            gather(v, t, lag_stride, step, below, lags, lowest);
#pragma unroll
            for (int k = 0; k < TOGETHER; k++) total += fabsf(v[k]);
        }
    total = sum_of_block<SPECTRUM_WARPS>(total, totals);
    const float size = power_of_two(__float_as_uint(total / HEADROOM)), factor = inverse(size);
    if (threadIdx.x == 0) scale[channel] = size;

    word spread_t = 0;
    if (once) {
        put_coefficients(v, factor, 0, 0, memory);
        __syncthreads();
        spread_t = spread<SPECTRUM_WARPS>(left, memory);
    }
#pragma unroll 1
    for (int index = warp(); index < TILES; index += SPECTRUM_WARPS) {
        Piece<Two> re[PIECES] = {}, im[PIECES] = {};
        for (int below = 0; below <= both_signs; below++)
            for (int part = 0; part < PARTS; part++) {
                if (!once) {
                    __syncthreads();
                    for (int step = 0; step < STEPS; step++) {
                        gather(v, t, lag_stride, step, below, lags, lowest);
                        put_coefficients(v, factor, part, step, memory);
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
        turn<1, false>(re, im, factors, index);
        across<1, false>(re, im);
        Pair tile[CHUNKS], tile_rest[CHUNKS];
        operands<1>(tile, re, im);
#pragma unroll
        for (int n = 0; n < PIECES; n++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                re[n].rows[r] = rest(re[n].rows[r]);
                im[n].rows[r] = rest(im[n].rows[r]);
            }
        operands<1>(tile_rest, re, im);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            Piece<Wide> a[1][2] = {}, b[1][2] = {};
            from_right<1>(a, b, tile, right, chunk);
            if (PARTS == 2) {
                from_right<1>(a, b, tile_rest, right, chunk);
                from_right<1>(a, b, tile, right + 64 * 2 * CHUNKS, chunk);
            }
            const Wide root = both(ROOT);
            uint4* target = values + place(channel, index, chunk);
#pragma unroll
            for (int h = 0; h < 2; h++)
                target[32 * h] = {
                    packed(a[0][h].rows[0] * root), packed(b[0][h].rows[0] * root), packed(a[0][h].rows[1] * root),
                    packed(b[0][h].rows[1] * root)};
        }
    }
}

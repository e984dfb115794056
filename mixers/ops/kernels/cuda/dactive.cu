// The gradients by ReLU(u_L), in parts: sums over some channels of dt exp(-|k| rate) V.

#include "pairs.cuh"

constexpr int SHARES = WARPS / ACROSS;  // warps that take different channels

struct Step {  // of every eight channels two
    float dt[TILES][2][2], rates[2], v[2][EIGHTS];
};

INLINE int channel_of(int eight, int c) { return 8 * eight + 4 * c + quarter(); }

INLINE void fetch(Step& step, const float* dt, const float* rate, const float* last, int eight, int begin, int count,
                  int width, int channels) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const int channel = min(channel_of(eight, c), channels - 1);
        step.rates[c] = rate[channel];
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int r = 0; r < 2; r++)
                step.dt[t][r][c] = dt[(long long)channel * count + min(begin + row_of(t, r), count - 1)];
        fetch_row(step.v[c], last + (long long)channel * width, width);
    }
}

typedef float Sums[TILES][EIGHTS][4];  // a warp's, of all columns

INLINE void add(Sums& sums, const Step& step, int eight, int begin, int count, int channels, float first, float apart) {
    Pair v[EIGHTS][2];
#pragma unroll
    for (int i = 0; i < EIGHTS; i++)
#pragma unroll
        for (int c = 0; c < 2; c++) v[i][c] = split(step.v[c][i]);
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        Pair d[4];
#pragma unroll
        for (int c = 0; c < 2; c++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const int lag = begin + row_of(t, r);
                const float decay = power(-LOG2_E * step.rates[c] * fabsf(first + apart * lag));
                d[2 * c + r] = split(lag < count && channel_of(eight, c) < channels ? step.dt[t][r][c] * decay : 0);
            }
#pragma unroll
        for (int i = 0; i < EIGHTS; i++) multiply(sums[t][i], d, v[i]);
    }
}

// A block takes ACROSS times ROWS lags, and one of `parts` of the channels.
extern "C" __global__ void __launch_bounds__(32 * WARPS, PADDED > 64 ? 1 : 2) dactive(
    const float* dt, const float* rate, const __grid_constant__ Inner inner, const float* last, const int* alive,
    float* dactive, int count, int width, int channels, int parts, float first, float step) {
    extern __shared__ __align__(128) char memory[];
    const int part = blockIdx.x % parts, lags = blockIdx.x / parts * ACROSS * ROWS;
    const int begin = lags + warp() % ACROSS * ROWS, turn = parts * SHARES;
    ask_for(inner, width);  // for `dhidden`
    if (FAR && !alive[lags / 128]) return;
    Sums sums = {};
    Step now;
    int eight = part * SHARES + warp() / ACROSS;
    fetch(now, dt, rate, last, eight, begin, count, width, channels);
#pragma unroll 2
    for (; 8 * eight < channels; eight += turn) {
        Step next;
        fetch(next, dt, rate, last, eight + turn, begin, count, width, channels);
        add(sums, now, eight, begin, count, channels, first, step);
        now = next;
    }
    sum_warps((float (&)[sizeof(sums) / 4])sums, (float*)memory, ACROSS);
    if (warp() >= ACROSS) return;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int lag = begin + row_of(t, r);
            if (lag < count) store_row(dactive + ((long long)part * count + lag) * width, sums[t], r, width);
        }
}

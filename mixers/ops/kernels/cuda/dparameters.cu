// The gradients by the encoder's parameters: sums over lags, by W_l of dh_l ReLU(u_(l-1)), by b_l of dh_l, by w of
// dh_0 k / divisor, by V of d ReLU(u_L) and by c of d, where d is dt exp(-|k| rate).

#include "pairs.cuh"

constexpr int ONES = EIGHTS;  // the eight that has 1 and k / divisor in its columns, for biases and slopes

typedef float Sums[TILES][EIGHTS + 1][4];

struct Step {  // of every eight lags two
    float x[TILES][2][2], u[2][EIGHTS];
};

// ROWS rows of dh (lags, width), or of dt (channels, lags), and u, at eight lags.
template <bool LAST>
INLINE void fetch(Step& step, const float* x, const float* u, const int (&rows)[TILES][2], int lag, int count, int width) {
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const int at = min(lag + 2 * quarter() + c, count - 1);
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int r = 0; r < 2; r++)
                step.x[t][r][c] = LAST ? x[(long long)rows[t][r] * count + at] : x[(long long)at * width + rows[t][r]];
        fetch_row(step.u[c], u + (long long)at * width, width);
    }
}

template <bool LAST>
INLINE void add(Sums& sums, const Step& step, const float (&rates)[TILES][2], int lag, int count, float first,
                float apart, float divisor) {
    Pair u[EIGHTS][2], ones[2];
    float k[2];
#pragma unroll
    for (int c = 0; c < 2; c++) {
        k[c] = first + apart * (lag + 2 * quarter() + c);
        ones[c] = split(eighth() == 0 ? 1 : eighth() == 1 ? __fdividef(k[c], divisor) : 0);
#pragma unroll
        for (int i = 0; i < EIGHTS; i++) u[i][c] = split(relu(step.u[c][i]));
    }
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        Pair x[4];
#pragma unroll
        for (int c = 0; c < 2; c++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const float decay = LAST ? power(fabsf(k[c]) * rates[t][r]) : 1;
                x[2 * c + r] = split(lag + 2 * quarter() + c < count ? step.x[t][r][c] * decay : 0);
            }
#pragma unroll
        for (int i = 0; i < EIGHTS; i++) multiply(sums[t][i], x, u[i]);
        multiply(sums[t][ONES], x, ones);
    }
}

// Where lags begin, by 128, and end whose decays are not all zero.
INLINE void live(int& begin, int& end, const int* alive, int count) {
    const int blocks = (count + 127) / 128;
    word from = 0, to = 0;  // from the end, and from the beginning
    for (int i = lane(); i < blocks; i += 32)
        if (alive[i]) from = max(from, (word)(blocks - i)), to = i + 1;
    begin = (blocks - (int)__reduce_max_sync(EVERY_LANE, from)) * 128;
    end = min((int)__reduce_max_sync(EVERY_LANE, to) * 128, count);
}

// The sums for ROWS rows, of `rows`, from `row` on.
template <bool LAST>
INLINE void sum(Sums& sums, const float* x, const float* u, const float* rate, int row, int rows, int turn, int turns,
                int begin, int end, int count, int width, float first, float apart, float divisor) {
    int own[TILES][2];
    float rates[TILES][2];
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            own[t][r] = min(row + row_of(t, r), rows - 1);
            rates[t][r] = LAST ? -LOG2_E * rate[own[t][r]] : 0;
        }
    int lag = begin + 8 * turn;
    Step now;
    fetch<LAST>(now, x, u, own, lag, count, width);
#pragma unroll 2
    for (; lag < end; lag += 8 * turns) {
        Step next;
        fetch<LAST>(next, x, u, own, lag + 8 * turns, count, width);
        add<LAST>(sums, now, rates, lag, end, first, apart, divisor);
        now = next;
    }
}

// What a warp has, of rows that are there, to where gradients by weights, by biases and by slopes begin.
INLINE void store(const Sums& sums, float* weights, float* biases, float* slopes, int row, int rows, int width) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int own = row + row_of(t, r);
            if (own >= rows) continue;
            if (quarter() == 0) biases[own] = sums[t][ONES][2 * r];
            if (quarter() == 0 && slopes) slopes[own] = sums[t][ONES][2 * r + 1];
            if (weights) store_row(weights + (long long)own * width, sums[t], r, width);
        }
}

// A block takes one of `parts` of the lags, and of one layer ACROSS times ROWS rows, or all, if there are fewer: then more
// of its warps take different lags.
extern "C" __global__ void __launch_bounds__(32 * WARPS, PADDED > 64 ? 1 : 2) dparameters(
    const float* dt, const float* rate, const float* units, const float* dhidden, const int* alive, float* gradients,
    int count, int width, int channels, int parts, int stride, float first, float step, float divisor) {
    extern __shared__ __align__(128) char memory[];
    constexpr int ALL = PADDED / ROWS, MOST = ALL < ACROSS ? ALL : ACROSS, BLOCKS = ALL / MOST;  // of an inner layer
    const int part = blockIdx.x % parts, block = blockIdx.x / parts, layer = min(block / BLOCKS, LAYERS + 1);
    const int across = layer > LAYERS ? ACROSS : MOST, shares = WARPS / across;
    const int row = ((block - layer * BLOCKS) * across + warp() % across) * ROWS;
    const int biases = LAYERS * width * width, last = biases + (LAYERS + 2) * width;
    const long long size = (long long)count * width;
    gradients += (long long)part * stride;
    units += max(layer - 1, 0) * size;
    int begin = 0, end = count;
    if (FAR) live(begin, end, alive, count);
    const int turn = part * shares + warp() / across, turns = parts * shares;  // of lags
    Sums sums = {};
    if (layer > LAYERS)
        sum<true>(sums, dt, units, rate, row, channels, turn, turns, begin, end, count, width, first, step,
                  divisor);
    else
        sum<false>(sums, dhidden + layer * size, units, rate, row, width, turn, turns, begin, end, count, width,
                   first, step, divisor);
    sum_warps((float (&)[sizeof(sums) / 4])sums, (float*)memory, across);
    if (warp() >= across) return;
    if (layer > LAYERS)
        store(sums, gradients + last, gradients + last + channels * width, nullptr, row, channels, width);
    else
        store(sums, layer ? gradients + (layer - 1) * width * width : nullptr, gradients + biases + layer * width,
              layer ? nullptr : gradients + biases + (LAYERS + 1) * width, row, width, width);
}

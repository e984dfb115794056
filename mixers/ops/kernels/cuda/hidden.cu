#include "layers.cuh"
#include "rows.cuh"

struct Layer {
    Row weights[OWN];
    float scales[OWN][2], biases[OWN][2];
};

INLINE void fetch_layer(float (&fetched)[OWN][EACH], const float* weights, int width) {
#pragma unroll
    for (int o = 0; o < OWN; o++) fetch(fetched[o], weights, 8 * (o * WARPS + warp()) + eighth(), width, width);
}

INLINE void take_layer(Layer& layer, const float (&fetched)[OWN][EACH], const float* biases, int width) {
#pragma unroll
    for (int o = 0; o < OWN; o++) {
        const float scale = scaled(layer.weights[o], fetched[o]);
#pragma unroll
        for (int k = 0; k < 2; k++) {
            layer.scales[o][k] = __shfl_sync(EVERY_LANE, scale, 4 * (2 * quarter() + k));
            layer.biases[o][k] = ALIGNED || column_of(o) + k < width ? biases[column_of(o) + k] : 0;
        }
    }
}

// h_0
INLINE void begin_with(Hidden& h, const float* slopes, const float* biases, int width, float lag, float step,
                       float divisor) {
#pragma unroll
    for (int o = 0; o < OWN; o++)
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const int column = column_of(o) + k;
            const bool there = ALIGNED || column < width;
            const float slope = there ? slopes[column] : 0, bias = there ? biases[column] : 0;
#pragma unroll
            for (int t = 0; t < TILES; t++)
#pragma unroll
                for (int r = 0; r < 2; r++)
                    h[o][t][2 * r + k] = __fdividef(lag + step * row_of(t, r), divisor) * slope + bias;
        }
}

// ReLU(u) in shared memory, as lanes read it: by tiles of lags, first and second words, and steps.
INLINE uint4* operands(char* memory, int tile, int second) {
    return (uint4*)memory + (tile * 2 + second) * STEPS * 32;
}

// u and n of the first `known` rows, where `share` is 1 / P, and ReLU(u) for the next layer; or, of the last one, for
// `channels`.
template <bool LAST>
INLINE void normalise(const Hidden& h, const float (&squares)[ROWS][WARPS], float* units, float* norms, int width,
                      float share, int known, char* memory, word* active) {
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        float factors[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int row = row_of(t, r);
            const float norm = square_root(product_of(squares, row) * share) + SMALLEST;
            factors[r] = reciprocal(norm);
            if (row < known && warp() == 0 && quarter() == 0) norms[row] = norm;
        }
#pragma unroll
        for (int o = 0; o < OWN; o++) {
            const int column = column_of(o);
            word pairs[2][2];  // first and second, of two rows
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const float one = h[o][t][2 * r] * factors[r], two = h[o][t][2 * r + 1] * factors[r];
                const bool there = row_of(t, r) < known;
                store_two(units + row_of(t, r) * width + column, one, two, there && (ALIGNED || column < width),
                          there && (ALIGNED || column + 1 < width), ALIGNED);
                split(pairs[0][r], pairs[1][r], REST * relu(one), REST * relu(two));
            }
#pragma unroll
            for (int second = 0; second < 2; second++)
                if (LAST) {
#pragma unroll
                    for (int r = 0; r < 2; r++)
                        active[place(2 * t + r, second, column) + 16 * eighth()] = pairs[second][r];
                } else {
                    uint4* const four = operands(memory, t, second) + column / 16 * 32 + 4 * eighth() + column / 4 % 4;
                    ((uint2*)four)[column / 2 % 2] = {pairs[second][0], pairs[second][1]};
                }
        }
    }
}

// h_(l + 1)
INLINE void apply(Hidden& h, const Layer& layer, char* memory) {
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        Rows rows;
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            rows.first[i] = operands(memory, t, 0)[32 * i + lane()];
            rows.second[i] = operands(memory, t, 1)[32 * i + lane()];
        }
#pragma unroll
        for (int o = 0; o < OWN; o++) {
            const Sums sums = product(rows, layer.weights[o]);
#pragma unroll
            for (int k = 0; k < 4; k++)
                h[o][t][k] = sums.of[k] * layer.scales[o][k % 2] + layer.biases[o][k % 2];
        }
    }
}

// The slowest decay. All threads ask, and `scratch` has a number a warp.
INLINE float slowest(const float* rates, int count, float* scratch) {
    float rate = 1e38f;
    for (int i = threadIdx.x; i < count; i += 32 * WARPS) rate = fminf(rate, rates[i]);
    for (int other = 16; other; other /= 2) rate = fminf(rate, __shfl_xor_sync(EVERY_LANE, rate, other));
    if (lane() == 0) scratch[warp()] = rate;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) rate = fminf(rate, scratch[w]);
    __syncthreads();
    return rate;
}

// Whether lags from `begin` on, of `count`, are where decays of this rate and faster ones are zero in float32, as exp(-104)
// is: by blocks of 128.
INLINE bool vanish(int begin, float rate, int count, float first, float step) {
    const float reach = 105 / fmaxf(rate, 1e-30f);
    const float from = (-reach - first) / step - 1, to = (reach - first) / step + 1;
    return begin / 128 < (int)fmaxf(from, 0) / 128 || begin / 128 > (int)fminf(to, count) / 128;
}

// Zeros at lags begin .. end, at most 32, of all channels.
INLINE void clear(float* coefficients, int channels, int begin, int end, int count) {
    for (int channel = 4 * warp() + lane() / 8; channel < channels; channel += 4 * WARPS) {
        float* const row = coefficients + (long long)channel * count;
        const int lag = begin + lane() % 8 * 4;
        if (count % 4 == 0 && lag < end)
            *(float4*)(row + lag) = {0, 0, 0, 0};
        else
            for (int k = lag; k < min(lag + 4, end); k++) row[k] = 0;
    }
}

// All u_l and n_l of the encoder, and ReLU(u_L) as `channels` reads it. A block takes ROWS lags through all layers. Where
// all decays are zero, so are the coefficients: `alive` says where they are not, by 128 lags.
extern "C" __global__ void __launch_bounds__(32 * WARPS) hidden(
    const float* rate, const __grid_constant__ Inner inner, const float* last, float* units, float* norms, word* active,
    int* alive, float* coefficients, int count, int width, int channels, float first, float step, float divisor) {
    extern __shared__ __align__(128) char memory[];
    SHARED float squares[ROWS][WARPS];
    const int begin = blockIdx.x * ROWS, known = count - begin;
    ask_for(inner, width);
    ask_for(last, channels * width);  // for `channels`
    if (FAR) {
        const bool zeros = vanish(begin, slowest(rate, channels, squares[0]), count, first, step);
        if (begin % 128 == 0 && threadIdx.x == 0) alive[begin / 128] = !zeros;
        if (__any_sync(EVERY_LANE, zeros))  // all find the same, as the compiler knows now
            return clear(coefficients, channels, begin, min(begin + ROWS, count), count);
    }
    const float* const* const biases = inner.of + LAYERS;
    const float share = 1.0f / width;
    units += (long long)begin * width, norms += begin;
    float fetched[OWN][EACH];
    Hidden h;
    if (LAYERS) fetch_layer(fetched, inner.of[0], width);
    begin_with(h, biases[LAYERS + 1], biases[0], width, first + step * begin, step, divisor);
#pragma unroll 1
    for (int l = 1; l <= LAYERS; l++) {
        Layer layer;
        put_products(squares, h, h);
        take_layer(layer, fetched, biases[l], width);
        fetch_layer(fetched, inner.of[min(l, LAYERS - 1)], width);  // the last once more, so that there is no branch
        __syncthreads();
        normalise<false>(h, squares, units, norms, width, share, known, memory, active);
        units += (long long)count * width, norms += count;
        __syncthreads();
        apply(h, layer, memory);
    }
    put_products(squares, h, h);
    __syncthreads();
    normalise<true>(h, squares, units, norms, width, share, known, memory, active + place(begin / 8, 0, 0));
}

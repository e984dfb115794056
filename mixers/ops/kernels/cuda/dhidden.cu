// The gradients by all h_l, from da_L, which `dactive` has left in parts: from the last layer to the first
// dh = (du - u (du . u) / P / s) / n, where du = da where u > 0 and s = |h| / sqrt(P) / n, and da = dh W.

#include "layers.cuh"
#include "pairs.cuh"

constexpr int EACH = PADDED / 4;     // numbers of a column of W a lane
constexpr int STRIDE = PADDED + 16;  // of rows in shared memory, whose numbers lanes read four at a time without conflicts

struct Layer {
    Hidden u;
    float norms[TILES][2];
};

// u_l and n_l of the first `known` rows.
INLINE void fetch(Layer& layer, const float* units, const float* norms, int width, int known) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int row = min(row_of(t, r), known - 1);
            layer.norms[t][r] = norms[row];
#pragma unroll
            for (int o = 0; o < OWN; o++) {
                const float2 two = load_two(units + row * width, column_of(o), width);
                layer.u[o][t][2 * r] = two.x, layer.u[o][t][2 * r + 1] = two.y;
            }
        }
}

// Of columns of W, the numbers by which a lane multiplies.
INLINE void fetch(float (&numbers)[OWN][EACH], const float* weights, int width) {
#pragma unroll
    for (int o = 0; o < OWN; o++) {
        const int column = 8 * (o * WARPS + warp()) + eighth();
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int row = i / 4 * 16 + 4 * quarter() + i % 4;
            numbers[o][i] = ALIGNED || (row < width && column < width) ? weights[row * width + column] : 0;
        }
    }
}

// dh from da, in its place.
INLINE void differentiate(Hidden& d, const Layer& layer, float (&products)[ROWS][WARPS], float share) {
#pragma unroll
    for (int o = 0; o < OWN; o++)
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int k = 0; k < 4; k++) d[o][t][k] = layer.u[o][t][k] > 0 ? d[o][t][k] : 0;
    put_products(products, d, layer.u);
    __syncthreads();
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float inverse = reciprocal(layer.norms[t][r]);
            const float s = fmaxf(1 - inverse * SMALLEST, 1e-5f);  // below, u is next to nothing, and unknown
            const float along = product_of(products, row_of(t, r)) * share * reciprocal(s);
#pragma unroll
            for (int o = 0; o < OWN; o++)
#pragma unroll
                for (int k = 2 * r; k < 2 * r + 2; k++)
                    d[o][t][k] = (d[o][t][k] - layer.u[o][t][k] * along) * inverse;
        }
}

INLINE void store(float* dhidden, const Hidden& d, int width, int known) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int o = 0; o < OWN; o++) {
                const bool there = row_of(t, r) < known;
                store_two(dhidden + row_of(t, r) * width + column_of(o), d[o][t][2 * r], d[o][t][2 * r + 1],
                          there && (ALIGNED || column_of(o) < width), there && (ALIGNED || column_of(o) + 1 < width),
                          ALIGNED);
            }
}

INLINE void put(float* matrix, const Hidden& d) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int o = 0; o < OWN; o++)
                *(float2*)(matrix + row_of(t, r) * STRIDE + column_of(o)) = {d[o][t][2 * r], d[o][t][2 * r + 1]};
}

// da_L of the first `known` rows.
INLINE void take(Hidden& d, const float* dactive, int parts, long long size, int width, int known) {
#pragma unroll
    for (int o = 0; o < OWN; o++)
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int k = 0; k < 4; k++) d[o][t][k] = 0;
#pragma unroll 4
    for (int part = 0; part < parts; part++, dactive += size)
#pragma unroll
        for (int o = 0; o < OWN; o++)
#pragma unroll
            for (int t = 0; t < TILES; t++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const float* const row = dactive + min(row_of(t, r), known - 1) * width;
                    const float2 two = load_two(row, column_of(o), width);
                    d[o][t][2 * r] += two.x, d[o][t][2 * r + 1] += two.y;
                }
}

// da = dh W, of the dh in `matrix`.
INLINE void apply(Hidden& d, const float* matrix, const float (&weights)[OWN][EACH]) {
#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int o = 0; o < OWN; o++)
#pragma unroll
            for (int k = 0; k < 4; k++) d[o][t][k] = 0;
#pragma unroll
        for (int i = 0; i < EACH; i += 4) {
            float4 rows[2];
#pragma unroll
            for (int r = 0; r < 2; r++)
                rows[r] = *(const float4*)(matrix + row_of(t, r) * STRIDE + 4 * i + 4 * quarter());
            const Pair a[2][4] = {
                {split(rows[0].x), split(rows[1].x), split(rows[0].y), split(rows[1].y)},
                {split(rows[0].z), split(rows[1].z), split(rows[0].w), split(rows[1].w)},
            };
#pragma unroll
            for (int o = 0; o < OWN; o++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const Pair b[2] = {split(weights[o][i + 2 * half]), split(weights[o][i + 2 * half + 1])};
                    multiply(d[o][t], a[half], b);
                }
        }
    }
}

// A block takes ROWS lags through all layers.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 1) dhidden(
    const float* dactive, const __grid_constant__ Inner inner, const float* units, const float* norms, const int* alive,
    float* dhidden, int count, int width, int parts) {
    extern __shared__ __align__(128) char memory[];
    SHARED float products[ROWS][WARPS];
    const int begin = blockIdx.x * ROWS, known = count - begin;
    if (FAR && !alive[begin / 128]) return;
    float* const matrix = (float*)memory;
    const float share = 1.0f / width;
    const long long size = (long long)count * width;
    units += LAYERS * size + (long long)begin * width, norms += (long long)LAYERS * count + begin;
    dhidden += LAYERS * size + (long long)begin * width;
#pragma unroll 1
    for (int l = 1; l <= LAYERS; l++) ask_for(units - l * size, min(ROWS, known) * width, 0, 1);  // its own
    Layer layer;
    float weights[OWN][EACH];
    fetch(layer, units, norms, width, known);
    if (LAYERS) fetch(weights, inner.of[LAYERS - 1], width);
    Hidden d;
    take(d, dactive + (long long)begin * width, parts, size, width, known);
#pragma unroll 2
    for (int l = LAYERS; l > 0; l--) {
        differentiate(d, layer, products, share);
        store(dhidden, d, width, known);
        put(matrix, d);
        __syncthreads();
        units -= size, norms -= count, dhidden -= size;
        float next[OWN][EACH];
        fetch(next, inner.of[max(l - 2, 0)], width);  // the first once more, so that there is no branch
        fetch(layer, units, norms, width, known);
        apply(d, matrix, weights);
#pragma unroll
        for (int o = 0; o < OWN; o++)
#pragma unroll
            for (int i = 0; i < EACH; i++) weights[o][i] = next[o][i];
    }
    differentiate(d, layer, products, share);
    store(dhidden, d, width, known);
}

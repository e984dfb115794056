#include "sequences.cuh"
#include "transforms.cuh"

// The sum of F dy conj(F x) over sequences, as left operands, each tile divided by a power of two; with `silu`, of
// SiLU(x). A block for CORRELATE_WARPS tiles of a channel.
extern "C" __global__ void __launch_bounds__(32 * CORRELATE_WARPS, 8 / CORRELATE_WARPS) correlate(
    const number* x, const number* dy, Table left, const float2* factors, Table right, uint4* sums, float* sizes_of_sums,
    int batch, int length, int silu) {
    extern __shared__ __align__(128) char memory[];
    SHARED float sizes[2][SEQUENCES];
    SHARED word largest[SEQUENCES];
    constexpr int BLOCKS = TILES / CORRELATE_WARPS;  // a channel
    const int channel = blockIdx.x / BLOCKS, index = blockIdx.x % BLOCKS * CORRELATE_WARPS + warp();
    const long long start = (long long)channel * batch * length, tile = (long long)channel * TILES + index;
    float re[CHUNKS][2][4] = {}, im[CHUNKS][2][4] = {};
#pragma unroll 1
    for (int first = 0; first < batch; first += SEQUENCES) {
        Pair of_x[4], of_dy[4];
        load<CORRELATE_WARPS>(x + start, first, batch, length, memory, sizes[0], largest, silu);
        begin(of_x, left, factors, spread<CORRELATE_WARPS>(left, memory), index);
        load<CORRELATE_WARPS>(dy + start, first, batch, length, memory, sizes[1], largest);
        begin(of_dy, left, factors, spread<CORRELATE_WARPS>(left, memory), index);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float a[SEQUENCES][2][4] = {}, b[SEQUENCES][2][4] = {}, c[SEQUENCES][2][4] = {}, d[SEQUENCES][2][4] = {};
            from_right<SEQUENCES>(a, b, of_x, right, chunk);
            from_right<SEQUENCES>(c, d, of_dy, right, chunk);
#pragma unroll
            for (int s = 0; s < SEQUENCES; s++) {
                const float size = sizes[0][s] * sizes[1][s];
#pragma unroll
                for (int h = 0; h < 2; h++)
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        const float2 product = times_conjugate({c[s][h][k], d[s][h][k]}, {a[s][h][k], b[s][h][k]});
                        re[chunk][h][k] += product.x * size;
                        im[chunk][h][k] += product.y * size;
                    }
            }
        }
    }
    float most = 0;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
        for (int k = 0; k < 8; k++)
            most = fmaxf(fmaxf(most, fabsf(re[chunk][k / 4][k % 4])), fabsf(im[chunk][k / 4][k % 4]));
    const float size = power_of_two(__reduce_max_sync(EVERY_LANE, __float_as_uint(most))), factor = inverse(size);
    if (lane() == 0) sizes_of_sums[tile] = size;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            re[chunk][k / 4][k % 4] *= factor;
            im[chunk][k / 4][k % 4] *= factor;
        }
        uint4* target = sums + 64 * (tile * CHUNKS + chunk) + lane();
        target[0] = operand(re[chunk][0], re[chunk][1]);
        target[32] = operand(im[chunk][0], im[chunk][1]);
    }
}

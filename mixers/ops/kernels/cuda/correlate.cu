#include "correlation.cuh"
#include "sequences.cuh"

// The sum of F dy conj(F x) over sequences, as left operands, each tile divided by a power of two; with `silu`, of
// SiLU(x). A block for CORRELATE_WARPS tiles of a channel.
extern "C" __global__ void __launch_bounds__(32 * CORRELATE_WARPS, RESIDENT_WARPS / CORRELATE_WARPS) correlate(
    const number* x, const number* dy, Table left, Factors factors, Table right, uint4* sums, float* sizes_of_sums,
    int batch, int length, int silu) {
    extern __shared__ __align__(128) char memory[];
    SHARED float sizes[2][SEQUENCES];
    SHARED word largest[SEQUENCES];
    constexpr int BLOCKS = TILES / CORRELATE_WARPS;  // a channel
    const int channel = blockIdx.x / BLOCKS, index = blockIdx.x % BLOCKS * CORRELATE_WARPS + warp();
    const long long start = (long long)channel * batch * length, tile = (long long)channel * TILES + index;
    Piece<Wide> re[CHUNKS][2] = {}, im[CHUNKS][2] = {};
#pragma unroll 1
    for (int first = 0; first < batch; first += SEQUENCES) {
        Pair of_x[4], of_dy[4];
        const long long next = start + (long long)(first + SEQUENCES) * length;
        const int behind = (batch - first - SEQUENCES) * length;  // tokens
        prefetch<CORRELATE_WARPS>(
            dy + next - SEQUENCES * length, min(SEQUENCES, batch - first) * length * sizeof(number));
        load<CORRELATE_WARPS>(x + start, first, batch, length, memory, sizes[0], largest, silu);
        begin(of_x, left, factors, spread<CORRELATE_WARPS>(left, memory), index);
        load<CORRELATE_WARPS>(dy + start, first, batch, length, memory, sizes[1], largest);
        prefetch<CORRELATE_WARPS>(x + next, min(SEQUENCES * length, behind) * (int)sizeof(number));
        begin(of_dy, left, factors, spread<CORRELATE_WARPS>(left, memory), index);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            Complex<Wide> products[SEQUENCES][2][2];
            correlate_chunk(products, of_x, of_dy, right, chunk);
#pragma unroll
            for (int s = 0; s < SEQUENCES; s++) {
                const Wide size = both(sizes[0][s] * sizes[1][s]);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    Wide &a = re[chunk][k / 2].rows[k % 2], &b = im[chunk][k / 2].rows[k % 2];
                    a = times_and_add(products[s][k / 2][k % 2].re, size, a);
                    b = times_and_add(products[s][k / 2][k % 2].im, size, b);
                }
            }
        }
    }
    float most = 0;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const Wide a = re[chunk][k / 2].rows[k % 2], b = im[chunk][k / 2].rows[k % 2];
            most = fmaxf(most, fmaxf(largest_of(a), largest_of(b)));
        }
    const float size = power_of_two(__reduce_max_sync(EVERY_LANE, __float_as_uint(most))), factor = inverse(size);
    if (lane() == 0) sizes_of_sums[tile] = size;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            Wide &a = re[chunk][k / 2].rows[k % 2], &b = im[chunk][k / 2].rows[k % 2];
            a = a * both(factor), b = b * both(factor);
        }
        uint4* target = sums + 64 * (tile * CHUNKS + chunk) + lane();
        target[0] = operand(re[chunk][0], re[chunk][1]);
        target[32] = operand(im[chunk][0], im[chunk][1]);
    }
}

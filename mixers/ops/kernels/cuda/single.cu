#include "correlation.cuh"
#include "lags.cuh"
#include "sequences.cuh"

constexpr int EACH = TILES / PRODUCT_WARPS;  // tiles a warp

// By which frequencies are divided, and what is multiplied again: sizes are powers of two. Where the squares of a
// sequence have a mean of 1, those of its frequencies have one too, and none is above P: so a product ends at P, times
// what the sizes leave.
constexpr float ROOM = PERIOD / 1024.0f;

INLINE int tile_of(int i) { return TILES - 1 - i * PRODUCT_WARPS - warp(); }  // z has the last behind dy

// About the root of the mean of squares, of which each thread has a part. `totals` is scratch.
INLINE float size_of(float squares, float* totals) {
    const float mean = sum_of_block<PRODUCT_WARPS>(squares, totals) / PERIOD;
    return power_of_two(__float_as_uint(sqrtf(fmaxf(mean, 0x1p-16f))));  // no less, unless all are zeros
}

// The gradient by the coefficients of lags lowest .. lowest + lags - 1 where there is a single sequence a channel: what
// `correlate` and `restore` give for many, in one kernel. With `silu`, of SiLU(x). A block for a channel, and a second
// one for the lags below 0.
extern "C" __global__ void __launch_bounds__(32 * PRODUCT_WARPS, RESIDENT_WARPS / PRODUCT_WARPS) single(
    const number* x, const number* dy, Table left, Table back, Factors factors, Table right, float* dt, int length,
    int lags, int lowest, int silu) {
    extern __shared__ __align__(128) char memory[];
    SHARED float sizes[2][1], totals[2][PRODUCT_WARPS];
    SHARED word largest[1];
    char* const kept = IN_PLACE ? memory : memory + MATRIX;
    const int parts = lowest < 0 ? 2 : 1, channel = blockIdx.x / parts;
    const bool below = blockIdx.x % parts;
    const long long start = (long long)channel * length;
    Pair of_x[EACH][4];
    prefetch<PRODUCT_WARPS>(dy + start, length * sizeof(number));
    float squares = load<PRODUCT_WARPS>(x + start, 0, 1, length, memory, sizes[0], largest, silu);
    float size = ROOM * size_of(squares, totals[0]);
    word from = spread<PRODUCT_WARPS>(left, memory);
#pragma unroll
    for (int i = 0; i < EACH; i++) begin(of_x[i], left, factors, from, tile_of(i));
    squares = load<PRODUCT_WARPS>(dy + start, 0, 1, length, memory, sizes[1], largest);
    size *= size_of(squares, totals[1]);
    const float factor = 1 / size;
    from = spread<PRODUCT_WARPS>(left, memory);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        Pair of_dy[4];
        begin(of_dy, left, factors, from, tile_of(i));
        Piece<Two> re[8] = {}, im[8] = {};
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            Complex<Wide> product[1][2][2];
            correlate_chunk(product, of_x[i], of_dy, right, chunk);
            Piece<Wide> a[2], b[2];
#pragma unroll
            for (int k = 0; k < 4; k++) {
                a[k / 2].rows[k % 2] = product[0][k / 2][k % 2].re * both(factor);
                b[k / 2].rows[k % 2] = product[0][k / 2][k % 2].im * both(factor);
            }
            const Pair frequencies[1] = {of_lags({operand(a[0], a[1]), operand(b[0], b[1])}, below)};
            back_from_right<1>(re, im, frequencies, right, chunk);
        }
        wait_for_readers();
        keep<1>(re, im, back, factors, kept, tile_of(i));
    }
    __syncthreads();
    const float sequences = sizes[0][0] * sizes[1][0];  // each with `size` alone may overflow
    store_lags<PRODUCT_WARPS>(
        dt + (long long)channel * lags, back, shared_address(kept), lags, lowest, below, size * sequences);
}

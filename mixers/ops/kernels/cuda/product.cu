#include "sequences.cuh"
#include "transforms.cuh"

#if WIDE_Y
typedef float result;
#else
typedef number result;
#endif

// Frequencies of a chunk times C, or its conjugate where `signs` is the sign bit of imaginary parts.
INLINE void filter(Piece<Two> (&re)[SEQUENCES][2], Piece<Two> (&im)[SEQUENCES][2], const uint4* spectrum, word signs) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint4 words = __ldg(spectrum + 32 * h);
        const Complex<Two> c[2] = {{unpacked<Two>(words.x), unpacked<Two>(words.y ^ signs)},
                                   {unpacked<Two>(words.z), unpacked<Two>(words.w ^ signs)}};
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int s = 0; s < SEQUENCES; s++) {
                Two &a = re[s][h].rows[r], &b = im[s][h].rows[r];
                const Complex<Two> filtered = Complex<Two>{a, b} * c[r];
                a = filtered.re, b = filtered.im;
            }
    }
}

// What float16 leaves of numbers.
INLINE void take_rest(Piece<Two> (&numbers)[SEQUENCES][2]) {
#pragma unroll
    for (int k = 0; k < SEQUENCES * 4; k++) {
        Two& two = numbers[k / 4][k / 2 % 2].rows[k % 2];
        two = rest(two);
    }
}

// y = Re F^H (C F x), with the conjugate of C if `transposed`, and SiLU(x) with `silu`. A block for a group of sequences
// of a channel.
extern "C" __global__ void __launch_bounds__(32 * PRODUCT_WARPS, RESIDENT_WARPS / PRODUCT_WARPS) product(
    const number* x, const uint4* spectrum, const float* scale, Table left, Table back, Factors factors,
    Table right, result* y, int batch, int length, int transposed, int silu) {
    extern __shared__ __align__(128) char memory[];
    SHARED float sizes[SEQUENCES];
    SHARED word largest[SEQUENCES];
    char* const kept = IN_PLACE ? memory : memory + MATRIX;
    const int groups = (batch + SEQUENCES - 1) / SEQUENCES;
    const int channel = blockIdx.x / groups, first = blockIdx.x % groups * SEQUENCES;
    const long long start = (long long)channel * batch * length;
    const word signs = transposed ? SIGNS : 0;  // of imaginary parts
    load<PRODUCT_WARPS>(x + start, first, batch, length, memory, sizes, largest, silu);
    prefetch<PRODUCT_WARPS>(spectrum + place(channel, 0, 0) - lane(), 4 * PERIOD);
    const word spread_x = spread<PRODUCT_WARPS>(left, memory);
#pragma unroll 1
    for (int index = TILES - 1 - warp(); index >= 0; index -= PRODUCT_WARPS) {  // z has the last ones behind x
        Pair tile[4];
        begin(tile, left, factors, spread_x, index);
        Piece<Two> re[8] = {}, im[8] = {};
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            Piece<Two> a[SEQUENCES][2] = {}, b[SEQUENCES][2] = {};
            from_right<SEQUENCES>(a, b, tile, right, chunk);
            filter(a, b, spectrum + place(channel, index, chunk), signs);
#pragma unroll
            for (int part = 0; part < (NUMBER == 1 ? 1 : 2); part++) {  // of float16
                Pair frequencies[SEQUENCES];
#pragma unroll
                for (int s = 0; s < SEQUENCES; s++)
                    frequencies[s] = {operand(a[s][0], a[s][1]), operand(b[s][0], b[s][1])};
                back_from_right<SEQUENCES>(re, im, frequencies, right, chunk);
                take_rest(a);
                take_rest(b);
            }
        }
        wait_for_readers();
        keep<SEQUENCES>(re, im, back, factors, kept, index);
    }
    __syncthreads();
#pragma unroll 1
    for (int unit = warp(); unit < UNITS; unit += PRODUCT_WARPS) {
        Piece<Wide> sums[UNIT_TILES][8] = {};
        finish<8>(sums, back, shared_address(kept), unit);
        wait_for_readers();
#pragma unroll
        for (int t = 0; t < UNIT_TILES; t++)
#pragma unroll
            for (int r = 0; r < (UNIT_ROWS == 8 ? 1 : 2); r++) {  // half a tile may be all
                const int row = row_of(unit, 16 * t + 8 * r + lane() / 4);
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    const int sequence = 8 * n / COLUMNS;
                    const float size = sizes[sequence] * scale[channel];  // either alone may overflow the result
                    const Wide two = sums[t][n].rows[r] * both(size);
#if WIDE_Y
                    const int token = row * COLUMNS + 8 * n % COLUMNS + 2 * (lane() % 4);
                    result* target = y + start + (long long)(first + sequence) * length + token;
                    if (first + sequence < batch && token < length) target[0] = two.one;
                    if (first + sequence < batch && token + 1 < length) target[1] = two.two;
#else
                    *(word*)(memory + piece(row, 8 * n) + 4 * (lane() % 4)) = pack_numbers(two.one, two.two);
#endif
                }
            }
#if !WIDE_Y
        __syncwarp();
        store(memory, y + start, unit, first, batch, length);
#endif
    }
}

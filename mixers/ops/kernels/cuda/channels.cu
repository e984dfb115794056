#include "rows.cuh"

constexpr int THREADS = 32 * WARPS, FOURS = ROWS * PADDED / 4 / THREADS;  // of words of ReLU(u_L), a thread

INLINE uint4 tile(const word* row, const word* below) { return {row[0], below[0], row[1], below[1]}; }

// V of 16 channels, and what products with those that a lane has are to be multiplied by.
INLINE Rows take(float (&scales)[2], const float* last, int channel, int channels, int width) {
    float fetched[2][EACH];
    Row row[2];
    Rows rows;
#pragma unroll
    for (int r = 0; r < 2; r++) fetch(fetched[r], last, channel + 8 * r + eighth(), channels, width);
#pragma unroll
    for (int r = 0; r < 2; r++) scales[r] = scaled(row[r], fetched[r]);
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        rows.first[i] = tile(row[0].first + 2 * i, row[1].first + 2 * i);
        rows.second[i] = tile(row[0].second + 2 * i, row[1].second + 2 * i);
    }
    return rows;
}

// ReLU(u_L) of 8 lags.
INLINE Row read(const uint4* eight) {
    Row lags;
#pragma unroll
    for (int i = 0; i < WORDS; i += 4) {
        const uint4 four = eight[i / 4 * 32 + lane()], other = eight[(WORDS + i) / 4 * 32 + lane()];
        lags.first[i] = four.x, lags.first[i + 1] = four.y, lags.first[i + 2] = four.z, lags.first[i + 3] = four.w;
        lags.second[i] = other.x, lags.second[i + 1] = other.y, lags.second[i + 2] = other.z;
        lags.second[i + 3] = other.w;
    }
    return lags;
}

// What the encoder's last layer and the decay make of ReLU(u_L), which `hidden` has left: a block takes ROWS lags, and 16
// channels a warp.
extern "C" __global__ void __launch_bounds__(THREADS, 2) channels(
    const float* rate, const uint4* active, const int* alive, const float* last, const float* last_bias,
    float* coefficients, int count, int width, int channels, float first, float step) {
    extern __shared__ __align__(128) char memory[];
    const int blocks = (channels + 16 * WARPS - 1) / (16 * WARPS);  // of the same lags
    const int begin = blockIdx.x / blocks * ROWS, channel = 16 * (blockIdx.x % blocks * WARPS + warp());
    if (FAR && !alive[begin / 128]) return;
    uint4 ahead[FOURS];
#pragma unroll
    for (int i = 0; i < FOURS; i++) ahead[i] = __ldg(active + (long long)begin * PADDED / 4 + i * THREADS + threadIdx.x);
    float offsets[2], rates[2], scales[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int own = channel + 8 * r + eighth();
        offsets[r] = own < channels ? last_bias[own] : 0;
        rates[r] = own < channels ? -LOG2_E * rate[own] : 0;
    }
    const Rows weights = take(scales, last, channel, channels, width);
#pragma unroll
    for (int i = 0; i < FOURS; i++) ((uint4*)memory)[i * THREADS + threadIdx.x] = ahead[i];
    __syncthreads();
    const bool whole = count % 2 == 0 && begin + ROWS <= count && channel + 16 <= channels;
    coefficients += (long long)(channel + eighth()) * count + begin + 2 * quarter();
#pragma unroll 2
    for (int row = 0; row < ROWS; row += 8) {
        const Sums sums = product(weights, read((const uint4*)memory + row * PADDED / 4));
        const int at = begin + row + 2 * quarter();
        const float lag = first + step * at;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float values[2];
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const float decay = power(fabsf(lag + step * k) * rates[r]);
                values[k] = (sums.of[2 * r + k] * scales[r] + offsets[r]) * decay;
            }
            const bool there = whole || channel + 8 * r + eighth() < channels;
            store_two(coefficients + (long long)8 * r * count + row, values[0], values[1],
                      there && (whole || at < count), there && at + 1 < count, whole);
        }
    }
}

// The live gate's arithmetic (runtime/gates.py, MeaningGate) where the embedding is: of every window the host reads 4 bytes.
//
//   embedding [size], of this window; fp32, unit length
//   ring      [slots, size], the windows before it; slots is at least smoothing and calm_windows
//   said      [size], what was said last
//   limits    speak_below, speak_below_at_rest, forget_above, calm_variance
//   state     windows so far, was anything said
//   smoothed  [size], the mean of the last `smoothing` windows, of unit length
//   word      bits 0-5: below speak_below; below speak_below_at_rest; above forget_above; calm; something was said; finite.
//             Bits 8-31: (cosine of `smoothed` to `said` + 1) * 2^23, rounded down, at most 2^24 - 1
//
// One block of 256. Nothing that it is given changes from window to window, so that a graph of launches can hold it.

#include "tile.cuh"

namespace {

constexpr int GATE_THREADS = 256;

struct Partial { float sums[GATE_THREADS / 32]; };

// The sum over the block, for every thread.
__device__ __forceinline__ float over_block(float value, Partial& partial) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) value += from_lane(value, bits);
    __syncthreads();  // of the sum before this one everybody has read
    if (threadIdx.x % 32 == 0) partial.sums[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < GATE_THREADS / 32; ++i) sum += partial.sums[i];
    return sum;
}

// The mean of the newest `windows` at one place; `newest` is the slot of this window.
__device__ __forceinline__ float mean_at(const float* ring, int slots, int size, int newest, int windows, int place) {
    float sum = 0;
    for (int i = 0; i < windows; ++i) sum += ring[(newest - i + slots) % slots * size + place];
    return sum / windows;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(GATE_THREADS) gate_step(
    const float* embedding, const float* said, const float* limits, int size, int slots, int smoothing, int calm_windows,
    float* ring, int32_t* state, float* smoothed, uint32_t* word) {
    SHARED(Partial, partial);
    const int seen = state[0], newest = seen % slots, thread = threadIdx.x;
    float wrong = 0;
    for (int i = thread; i < size; i += GATE_THREADS) {
        ring[newest * size + i] = embedding[i];
        wrong += fabsf(embedding[i]) <= 2 ? 0 : 1;  // also where it is NaN
    }
    const bool finite = over_block(wrong, partial) == 0;

    const int windows = min(smoothing, seen + 1);
    float square = 0, product = 0;  // every thread reads back only what it wrote itself
    for (int i = thread; i < size; i += GATE_THREADS) {
        const float mean = mean_at(ring, slots, size, newest, windows, i);
        smoothed[i] = mean;
        square += mean * mean;
        product += mean * said[i];
    }
    square = over_block(square, partial);
    product = over_block(product, partial);
    const float length = windows == 1 ? 1 : fmaxf(sqrtf(square), 1e-6f);
    if (windows > 1)
        for (int i = thread; i < size; i += GATE_THREADS) smoothed[i] /= length;
    const float cosine = fminf(1, fmaxf(-1, product / length));

    bool calm = seen + 1 >= calm_windows;
    if (calm && calm_windows > 1) {
        float square = 0;
        for (int i = thread; i < size; i += GATE_THREADS) {
            const float mean = mean_at(ring, slots, size, newest, calm_windows, i);
            square += mean * mean;
        }
        calm = 1 - over_block(square, partial) <= limits[3];
    }
    if (thread == 0) {
        const uint32_t fixed = min(static_cast<int>((cosine + 1) * (1 << 23)), (1 << 24) - 1);
        *word = (cosine < limits[0]) | (cosine < limits[1]) << 1 | (cosine > limits[2]) << 2 | calm << 3 |
                (state[1] != 0) << 4 | finite << 5 | (finite ? fixed : 0) << 8;
        state[0] = seen + 1;
    }
}

// What the host decided to say becomes what later windows are compared with.
extern "C" __global__ void __launch_bounds__(GATE_THREADS) gate_say(const float* embedding, int size, float* said, int32_t* state) {
    for (int i = threadIdx.x; i < size; i += GATE_THREADS) said[i] = embedding[i];
    if (threadIdx.x == 0) state[1] = 1;
}

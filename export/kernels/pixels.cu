// A camera frame to the encoder's input in one pass: resize with antialiasing, centre crop, normalise.
//
// The arithmetic is Pillow's (src/libImaging/Resample.c, 8 bits per channel): weights with 22 fractional bits, rows resized
// first and rounded to 8 bits, then columns, rounded again. The result equals the CPU path's bit for bit (for frames at least
// as wide as high: Pillow 13 resizes the others in the opposite order). The weights come from vlj_edge/cuda/pixels.py.
//
//   frame   packed BGR: rows of `stride` bytes; or NV12: `height` rows of luma, then half as many rows of U, V pairs.
//           4-byte aligned, readable up to the next multiple of 4
//   across  int32 [side, 2 + taps_across], per output column: first source column, number of taps, weights
//   down    int32 [side, 2 + taps_down], the same per output row
//   norm    float32 [6], scales of R, G, B, then biases: out = byte * scale + bias
//   out     [3, side, side], R, G, B;  bytes: uint8 [3, side, side], the same before normalisation, or null
//   grid    (ceil(side / TILE), ceil(side / TILE_ROWS)), block 384, no dynamic shared memory

#include "warp.cuh"

namespace {

constexpr int TILE = 16, TILE_ROWS = 4;  // columns and rows of the output per block
constexpr int LANES = TILE * 3;          // one thread per column and channel
constexpr int GROUPS = 8;                // source rows at a time
constexpr int MAX_TAPS = 64;             // enough for frames up to 31 times as large as the output
constexpr int SEGMENT = 1792;            // at most as many bytes of a source row lie under a tile
constexpr int PRECISION = 22;            // Resample.c, PRECISION_BITS

struct PixelMemory {
    alignas(16) uint8_t rows[GROUPS][SEGMENT];
    int32_t across[TILE][2 + MAX_TAPS];
    int32_t down[TILE_ROWS][2 + MAX_TAPS];
    int32_t sums[GROUPS][TILE_ROWS][LANES];
};

// A weighted sum to 8 bits (Resample.c, clip8).
__device__ __forceinline__ int to_byte(int sum) { return min(max(sum >> PRECISION, 0), 255); }

// Copy a run of bytes as aligned words, from the word that it begins in to the word that it ends in: in `to` it begins
// (address of `from`) % 4 bytes late.
__device__ __forceinline__ void copy_words(uint8_t* to, const uint8_t* from, int bytes, int lane) {
    const int shift = static_cast<int>(reinterpret_cast<uintptr_t>(from) & 3);
    const uint32_t* words = reinterpret_cast<const uint32_t*>(from - shift);
    for (int i = lane; i < (shift + bytes + 3) / 4; i += LANES) reinterpret_cast<uint32_t*>(to)[i] = words[i];
}

// A pixel format has load(), which copies `columns` pixels of a row from column `first` on into a segment of shared memory, and
// value(), which reads one channel (R, G, B) of one of them from there.
struct Bgr {
    const uint8_t* frame;
    int stride, height;

    __device__ __forceinline__ void load(uint8_t* segment, int row, int first, int columns, int lane) const {
        copy_words(segment, frame + static_cast<int64_t>(row) * stride + first * 3, columns * 3, lane);
    }

    __device__ __forceinline__ int value(const uint8_t* segment, int row, int first, int column, int channel) const {
        const int shift = (row * stride + first * 3) & 3;
        return segment[shift + (column - first) * 3 + 2 - channel];
    }
};

// The conversion is OpenCV's, from which the CPU path gets its frames (modules/imgproc/src/color_yuv.simd.hpp: ITU-R BT.601,
// limited range, 20 fractional bits).
struct Nv12 {
    const uint8_t* frame;
    int stride, height;

    static constexpr int CHROMA = SEGMENT / 2;  // luma in the segment's first half, chroma in its second

    __device__ __forceinline__ void load(uint8_t* segment, int row, int first, int columns, int lane) const {
        copy_words(segment, frame + static_cast<int64_t>(row) * stride + first, columns, lane);
        const int pair = first & ~1, end = (first + columns + 1) & ~1;  // two columns, and two rows, share a U, V pair
        copy_words(segment + CHROMA, frame + static_cast<int64_t>(height + row / 2) * stride + pair, end - pair, lane);
    }

    __device__ __forceinline__ int value(const uint8_t* segment, int row, int first, int column, int channel) const {
        const int luma = segment[((row * stride + first) & 3) + column - first];
        const int shift = ((height + row / 2) * stride + (first & ~1)) & 3;
        const uint8_t* pair = segment + CHROMA + shift + (column & ~1) - (first & ~1);
        const int u = pair[0] - 128, v = pair[1] - 128, y = max(luma - 16, 0) * 1220542 + (1 << 19);
        const int sum = channel == 0 ? y + 1673527 * v : channel == 1 ? y - 852492 * v - 409993 * u : y + 2116026 * u;
        return min(max(sum >> 20, 0), 255);
    }
};

__device__ __forceinline__ void store(float* at, float value) { *at = value; }
__device__ __forceinline__ void store(uint16_t* at, float value) { *at = Fp16::pack(value, 0) & 0xFFFF; }

// One block: a tile of the output. Each group of threads resizes one source row horizontally and adds it, weighted, to its own
// sums of the output rows; at the end the sums of all groups are added up.
template <typename Format, typename Output>
__device__ __forceinline__ void resize_and_normalise(
    const Format& format, const int32_t* across, const int32_t* down, const float* norm, int taps_across, int taps_down,
    int side, Output* out, uint8_t* bytes) {
    SHARED(PixelMemory, memory);
    const int thread = threadIdx.x, group = thread / LANES, lane = thread % LANES;
    const int first_x = blockIdx.x * TILE, first_y = blockIdx.y * TILE_ROWS;
    const int columns = min(TILE, side - first_x), lines = min(TILE_ROWS, side - first_y);
    for (int i = thread; i < columns * (2 + taps_across); i += GROUPS * LANES)
        memory.across[i / (2 + taps_across)][i % (2 + taps_across)] = across[first_x * (2 + taps_across) + i];
    for (int i = thread; i < lines * (2 + taps_down); i += GROUPS * LANES)
        memory.down[i / (2 + taps_down)][i % (2 + taps_down)] = down[first_y * (2 + taps_down) + i];
    __syncthreads();

    const int left = memory.across[0][0], top = memory.down[0][0];
    const int width = memory.across[columns - 1][0] + memory.across[columns - 1][1] - left;
    const int bottom = memory.down[lines - 1][0] + memory.down[lines - 1][1];
    const int column = lane % TILE, channel = lane / TILE;
    int32_t sums[TILE_ROWS] = {};
    for (int first_row = top; first_row < bottom; first_row += GROUPS) {
        const int row = first_row + group;
        if (row < bottom) format.load(memory.rows[group], row, left, width, lane);
        __syncthreads();
        if (row < bottom && column < columns) {
            const int32_t* weights = memory.across[column];
            int sum = 1 << (PRECISION - 1);
            for (int i = 0; i < weights[1]; ++i)
                sum += format.value(memory.rows[group], row, left, weights[0] + i, channel) * weights[2 + i];
            const int value = to_byte(sum);
#pragma unroll
            for (int line = 0; line < TILE_ROWS; ++line) {
                const int32_t* line_weights = memory.down[line];
                const int i = row - line_weights[0];
                if (line < lines && i >= 0 && i < line_weights[1]) sums[line] += value * line_weights[2 + i];
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int line = 0; line < TILE_ROWS; ++line) memory.sums[group][line][lane] = sums[line];
    __syncthreads();
    const int line = group;  // each of the first groups finishes one line
    if (line < lines && column < columns) {
        int sum = 1 << (PRECISION - 1);
        for (int i = 0; i < GROUPS; ++i) sum += memory.sums[i][line][lane];
        const int value = to_byte(sum), at = (channel * side + first_y + line) * side + first_x + column;
        // Rounded after the product and after the sum, as NumPy does on the CPU.
        store(out + at, __fadd_rn(__fmul_rn(static_cast<float>(value), norm[channel]), norm[3 + channel]));
        if (bytes != nullptr) bytes[at] = value;
    }
}

}  // namespace

#define PIXELS(format, Format, dtype, Output)                                                                              \
    extern "C" __global__ void __launch_bounds__(GROUPS * LANES) pixels_##format##_##dtype(                                \
        const uint8_t* frame, const int32_t* across, const int32_t* down, const float* norm, int stride, int height,       \
        int taps_across, int taps_down, int side, Output* out, uint8_t* bytes) {                                           \
        resize_and_normalise(                                                                                              \
            Format{frame, stride, height}, across, down, norm, taps_across, taps_down, side, out, bytes);                  \
    }

PIXELS(bgr, Bgr, fp32, float)
PIXELS(bgr, Bgr, fp16, uint16_t)
PIXELS(nv12, Nv12, fp32, float)
PIXELS(nv12, Nv12, fp16, uint16_t)

// The scene gate's thumbnail: out float32 [cells, cells], 0..1, the luminance (ITU-R BT.601) of the mean colour of each cell,
// as Pillow's BOX filter makes it of bytes [3, side, side]. weights: as `across` above, for both directions. One thread per
// cell.
extern "C" __global__ void __launch_bounds__(128) luminance(
    const uint8_t* bytes, const int32_t* weights, int taps, int side, int cells, float* out) {
    const int cell = blockIdx.x * 128 + threadIdx.x;
    if (cell >= cells * cells) return;
    const int32_t* across = weights + cell % cells * (2 + taps);
    const int32_t* down = weights + cell / cells * (2 + taps);
    int value[3];
    for (int channel = 0; channel < 3; ++channel) {
        int sum = 1 << (PRECISION - 1);
        for (int j = 0; j < down[1]; ++j) {
            int row = 1 << (PRECISION - 1);
            for (int i = 0; i < across[1]; ++i)
                row += bytes[(channel * side + down[0] + j) * side + across[0] + i] * across[2 + i];
            sum += to_byte(row) * down[2 + j];
        }
        value[channel] = to_byte(sum);
    }
    out[cell] = (value[0] * 0.299f + value[1] * 0.587f + value[2] * 0.114f) / 255;
}

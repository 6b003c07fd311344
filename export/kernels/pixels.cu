// A camera's frame to the encoder's input in one pass: resized with antialiasing, cropped, normalised.
//
// The arithmetic is Pillow's own (src/libImaging/Resample.c, 8 bits a channel): weights with 22 fractional bits, rounded to 8
// bits between the two directions and after them. So the result is not near the one of the processor's path, it is the same.
// Weights come from the host (vlj_edge/kernels.py), which makes them once for a size of frame.
//
//   frame  packed BGR or RGB rows of `stride` bytes; or NV12: `height` rows of luma, then half as many of pairs U, V.
//          4-byte aligned, readable up to the next multiple of 4
//   across [side, 2 + taps]: first source column, how many, weights; down the same for rows; int32
//   norm   scale of R, G, B, then their bias: out = byte * scale + bias
//   out    [3, side, side], R, G, B;  bytes: the same before it is normalised, or null
//   grid   (ceil(side / TILE), ceil(side / TILE_ROWS)), block 384, no dynamic shared memory

#include "tile.cuh"

namespace {

constexpr int TILE = 16, TILE_ROWS = 4;      // of the output, a block
constexpr int LANES = TILE * 3;              // a column and channel each
constexpr int GROUPS = 8;                    // source rows at a time
constexpr int TAPS = 64;                     // at most: frames up to 31 times as large as what is made of them
constexpr int SEGMENT = 1792;                // bytes of a source row under a tile, at most
constexpr int PRECISION = 22;                // Resample.c, PRECISION_BITS

struct PixelMemory {
    alignas(16) uint8_t rows[GROUPS][SEGMENT];
    int32_t across[TILE][2 + TAPS];
    int32_t down[TILE_ROWS][2 + TAPS];
    int32_t sums[GROUPS][TILE_ROWS][LANES];
};

__device__ __forceinline__ int to_byte(int value) { return min(max(value >> PRECISION, 0), 255); }

// What a source row is, and what is read of it into a row of PixelMemory: whole words, so that it may begin 1 to 3 bytes in.
struct Packed {
    const uint8_t* frame;
    int stride, height;
    bool bgr;

    __device__ __forceinline__ void load(uint8_t* to, int row, int first, int columns, int lane, int lanes) const {
        copy_words(to, frame + static_cast<int64_t>(row) * stride + first * 3, columns * 3, lane, lanes);
    }

    __device__ __forceinline__ int value(const uint8_t* segment, int row, int first, int column, int channel) const {
        const int shift = (row * stride + first * 3) & 3;
        return segment[shift + (column - first) * 3 + (bgr ? 2 - channel : channel)];
    }

    // Whole words, from the one in which the bytes begin to the one in which they end.
    static __device__ __forceinline__ void copy_words(uint8_t* to, const uint8_t* from, int bytes, int lane, int lanes) {
        const int shift = static_cast<int>(reinterpret_cast<uintptr_t>(from) & 3);
        const uint32_t* words = reinterpret_cast<const uint32_t*>(from - shift);
        for (int i = lane; i < (shift + bytes + 3) / 4; i += lanes) reinterpret_cast<uint32_t*>(to)[i] = words[i];
    }
};

// OpenCV's conversion (imgproc, color_yuv, ITU-R BT.601 of limited range, 20 fractional bits): the processor's path gets its
// frames from there.
struct Nv12 {
    const uint8_t* frame;
    int stride, height;

    static constexpr int HALF = SEGMENT / 2;

    __device__ __forceinline__ void load(uint8_t* to, int row, int first, int columns, int lane, int lanes) const {
        Packed::copy_words(to, frame + static_cast<int64_t>(row) * stride + first, columns, lane, lanes);
        const int pair = first & ~1, end = (first + columns + 1) & ~1;  // two columns, and two rows, share a colour
        Packed::copy_words(to + HALF, frame + static_cast<int64_t>(height + row / 2) * stride + pair, end - pair, lane, lanes);
    }

    __device__ __forceinline__ int value(const uint8_t* segment, int row, int first, int column, int channel) const {
        const int luma = segment[((row * stride + first) & 3) + column - first];
        const uint8_t* pair = segment + HALF + (((height + row / 2) * stride + (first & ~1)) & 3) + (column & ~1) - (first & ~1);
        const int u = pair[0] - 128, v = pair[1] - 128, y = max(luma - 16, 0) * 1220542 + (1 << 19);
        const int sum = channel == 0 ? y + 1673527 * v : channel == 1 ? y - 852492 * v - 409993 * u : y + 2116026 * u;
        return min(max(sum >> 20, 0), 255);
    }
};

__device__ __forceinline__ void store(float* at, float value) { *at = value; }
__device__ __forceinline__ void store(uint16_t* at, float value) { *at = Half::pack(value, 0) & 0xFFFF; }

// Element: what `out` holds.
template <typename Source, typename Element>
__device__ __forceinline__ void see(
    const Source& source, const int32_t* across, const int32_t* down, const float* norm, int taps_across, int taps_down,
    int side, Element* out, uint8_t* bytes) {
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
    for (int rows = top; rows < bottom; rows += GROUPS) {
        const int row = rows + group;
        if (row < bottom) source.load(memory.rows[group], row, left, width, lane, LANES);
        __syncthreads();
        if (row < bottom && column < columns) {
            const int32_t* weights = memory.across[column];
            int sum = 1 << (PRECISION - 1);
            for (int i = 0; i < weights[1]; ++i)
                sum += source.value(memory.rows[group], row, left, weights[0] + i, channel) * weights[2 + i];
            const int value = to_byte(sum);
#pragma unroll
            for (int line = 0; line < TILE_ROWS; ++line) {
                const int32_t* of_line = memory.down[line];
                const int i = row - of_line[0];
                if (line < lines && i >= 0 && i < of_line[1]) sums[line] += value * of_line[2 + i];
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int line = 0; line < TILE_ROWS; ++line) memory.sums[group][line][lane] = sums[line];
    __syncthreads();
    const int line = group;  // the first groups finish a line each
    if (line < lines && column < columns) {
        int sum = 1 << (PRECISION - 1);
        for (int i = 0; i < GROUPS; ++i) sum += memory.sums[i][line][lane];
        const int value = to_byte(sum), at = (channel * side + first_y + line) * side + first_x + column;
        // Rounded after the product and after the sum, as numpy does it on the processor.
        store(out + at, __fadd_rn(__fmul_rn(static_cast<float>(value), norm[channel]), norm[3 + channel]));
        if (bytes != nullptr) bytes[at] = value;
    }
}

}  // namespace

#define PIXELS(type, Element)                                                                                              \
    extern "C" __global__ void __launch_bounds__(GROUPS * LANES) pixels_bgr_##type(                                         \
        const uint8_t* frame, const int32_t* across, const int32_t* down, const float* norm, int stride, int height,       \
        int taps_across, int taps_down, int side, Element* out, uint8_t* bytes) {                                          \
        see(Packed{frame, stride, height, true}, across, down, norm, taps_across, taps_down, side, out, bytes);            \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(GROUPS * LANES) pixels_rgb_##type(                                         \
        const uint8_t* frame, const int32_t* across, const int32_t* down, const float* norm, int stride, int height,       \
        int taps_across, int taps_down, int side, Element* out, uint8_t* bytes) {                                          \
        see(Packed{frame, stride, height, false}, across, down, norm, taps_across, taps_down, side, out, bytes);           \
    }                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(GROUPS * LANES) pixels_nv12_##type(                                        \
        const uint8_t* frame, const int32_t* across, const int32_t* down, const float* norm, int stride, int height,       \
        int taps_across, int taps_down, int side, Element* out, uint8_t* bytes) {                                          \
        see(Nv12{frame, stride, height}, across, down, norm, taps_across, taps_down, side, out, bytes);                    \
    }

PIXELS(fp32, float)
PIXELS(fp16, uint16_t)

// The scene gate's thumbnail of what was seen: [cells, cells] of 0..1, each cell the mean of its area, as Pillow's BOX makes
// it of `bytes` [3, side, side]. One thread a cell; weights as above.
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
    out[cell] = (value[0] * 0.299f + value[1] * 0.587f + value[2] * 0.114f) / 255;  // ITU-R BT.601
}

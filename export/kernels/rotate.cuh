// The rotary embeddings, applied to rows of 16-bit values on their way into shared memory. Angles are never rounded to 16
// bits: cosines and sines are fp32, and the products as well (facts on precision: export/models/vision_encoder.py).
//
// No table of all positions is read: for 2,048 tokens it would be four times the bytes of the keys, for every tile of
// queries. Both rotations need far less, and that lies in shared memory.
#pragma once

#include "tile.cuh"

constexpr int THREADS = 128;
constexpr int TURNS = 1024;  // float4 entries of shared memory for angles: 16 KiB

// A tile of keys (or queries): COLUMNS values a row, ROWS rows, rows of 16-byte chunks that are shuffled so that eight rows
// of the same chunk lie in different banks.
template <int COLUMNS>
__device__ __forceinline__ int chunk_at(int row, int chunk) {
    constexpr int A_ROW = COLUMNS / 8;
    const int shuffled = A_ROW >= 8 ? chunk ^ (row & 7) : chunk ^ ((row >> 1) & 3);
    return (row * A_ROW + shuffled) * 8;
}

// V-JEPA 2 (and 2.1): tokens in the order time, row, column. Each of the three axes turns D / 6 pairs of adjacent values by
// angles of its own position; what is left is not turned. `turns` has an entry a position and pair: cosines of the even and
// the odd value, then their sines with the sign of the rotation. V-JEPA 2 tiles its frequencies, so that the two of a pair
// differ; 2.1 interleaves them, so that they are alike. After the axes comes one entry that turns nothing.
template <typename Element, int D>
struct Axes {
    static constexpr int PAIRS = D / 3 / 2;
    int rows, columns, last_token;
    uint32_t a_plane, plane_factor, column_factor;  // quotients by multiplication: exact for fewer than 65,536 tokens
    int entry[4], axis[4];                           // of the four pairs of this thread's chunk, at position 0

    __device__ __forceinline__ Axes(int thread, int tokens, int rows_, int columns_)
        : rows(rows_), columns(columns_), last_token(tokens - 1) {
        a_plane = rows * columns;
        plane_factor = 0xFFFFFFFFu / a_plane + 1;
        column_factor = 0xFFFFFFFFu / columns + 1;
        const int times = (tokens + a_plane - 1) / a_plane;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int pair = thread % (D / 8) * 4 + i;
            axis[i] = min(pair / PAIRS, 3);
            const int before = axis[i] == 0 ? 0 : axis[i] == 1 ? times : axis[i] == 2 ? times + rows : times + rows + columns;
            entry[i] = before * PAIRS + (axis[i] == 3 ? 0 : pair % PAIRS);
        }
    }

    static __device__ __forceinline__ int entries(int tokens, int rows, int columns) {
        return ((tokens + rows * columns - 1) / (rows * columns) + rows + columns) * PAIRS + 1;
    }

    // Which row and chunk of a tile the i-th of this thread is: all have the same chunk.
    static __device__ __forceinline__ int row(int thread, int i) { return (i * THREADS + thread) / (D / 8); }
    static __device__ __forceinline__ int chunk(int thread, int) { return thread % (D / 8); }

    template <int CHUNKS>
    __device__ __forceinline__ void turn(uint4 (&held)[CHUNKS], int thread, int first, const float4* turns) const {
        uint32_t* registers = reinterpret_cast<uint32_t*>(held);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int last = -1;
            float4 angle{1, 1, 0, 0};
#pragma unroll
            for (int c = 0; c < CHUNKS; ++c) {
                const uint32_t token = min(first + row(thread, c), last_token);  // beyond it there is no angle
                const uint32_t time = quotient(token, a_plane, plane_factor);
                const uint32_t in_plane = token - time * a_plane;
                const uint32_t line = quotient(in_plane, columns, column_factor);
                const uint32_t column = in_plane - line * columns;
                const int position = axis[i] == 0 ? time : axis[i] == 1 ? line : axis[i] == 2 ? column : 0;
                const int at = entry[i] + position * PAIRS;
                if (at != last) {  // rows of a tile often share the time and the column
                    angle = turns[at];
                    last = at;
                }
                const float2 x = Element::unpack(registers[c * 4 + i]);
                registers[c * 4 + i] = Element::pack(x.x * angle.x + x.y * angle.z, x.y * angle.y + x.x * angle.w);
            }
        }
    }

    // value / by, where factor = 2^32 / by rounded up
    static __device__ __forceinline__ uint32_t quotient(uint32_t value, uint32_t by, uint32_t factor) {
        return by == 1 ? value : __umulhi(value, factor);
    }
};

// Llama's rotate-half: value d turns with value d + D / 2 by position * frequency(d). A position is a multiple of
// PLACES plus what is left, so its angle is the sum of two: `turns` has those of the places, in shared memory, and `coarse`
// those of the multiples, of which a thread reads 64 bytes a tile. The sum is taken in fp32.
template <typename Element, int D, int PLACES>
struct Halves {
    static constexpr int UNITS = D / 16;  // a unit: eight values and the eight that turn with them
    const float4* coarse;
    int last_token;

    __device__ __forceinline__ Halves(const float4* coarse_, int tokens) : coarse(coarse_), last_token(tokens - 1) {}

    static __device__ __forceinline__ int entries() { return 4 * PLACES * UNITS; }

    static __device__ __forceinline__ int row(int thread, int i) { return (i / 2 * THREADS + thread) / UNITS; }
    static __device__ __forceinline__ int chunk(int thread, int i) { return thread % UNITS + i % 2 * UNITS; }

    template <int CHUNKS>
    __device__ __forceinline__ void turn(uint4 (&held)[CHUNKS], int thread, int first, const float4* turns) const {
        const int unit = thread % UNITS;
#pragma unroll
        for (int c = 0; c < CHUNKS; c += 2) {
            const int token = min(first + row(thread, c), last_token);
            uint32_t* low = reinterpret_cast<uint32_t*>(&held[c]);
            uint32_t* high = reinterpret_cast<uint32_t*>(&held[c + 1]);
#pragma unroll
            for (int i = 0; i < 4; ++i) {  // entries: cosine and sine of one value, cosine and sine of the next
                const float4 a = turns[(i * PLACES + token % PLACES) * UNITS + unit];
                const float4 b = coarse[(token / PLACES * UNITS + unit) * 4 + i];
                const float2 cosine{a.x * b.x - a.y * b.y, a.z * b.z - a.w * b.w};
                const float2 sine{a.y * b.x + a.x * b.y, a.w * b.z + a.z * b.w};
                const float2 x = Element::unpack(low[i]), y = Element::unpack(high[i]);
                low[i] = Element::pack(x.x * cosine.x - y.x * sine.x, x.y * cosine.y - y.y * sine.y);
                high[i] = Element::pack(y.x * cosine.x + x.x * sine.x, y.y * cosine.y + x.y * sine.y);
            }
        }
    }
};

// Rotary position embeddings (RoPE, arXiv 2104.09864), applied to rows of 16-bit values on their way into shared memory.
// Cosines, sines and products are fp32: angles are never rounded to 16 bits, since positions reach into the thousands.
//
// A table with one row per token would be read again for every tile of queries, and at 2,048 tokens is four times the size of
// the keys. Both rotations need far fewer angles, which fit into shared memory. vlj_edge/cuda/attention.py builds the tables.
#pragma once

#include "warp.cuh"

constexpr int THREADS = 128;         // per block
constexpr int ROTARY_ENTRIES = 1024; // float4 entries of the rotary table in shared memory: 16 KiB
constexpr int FINE_POSITIONS = 64;   // position = 64 * coarse + fine (HalvesRotation)

// Offset of a 16-byte chunk (8 values) in a tile of COLUMNS values a row. Chunks are swizzled so that the same chunk of eight
// consecutive rows lies in different banks.
template <int COLUMNS>
__device__ __forceinline__ int chunk_offset(int row, int chunk) {
    constexpr int CHUNKS_PER_ROW = COLUMNS / 8;
    const int swizzled = CHUNKS_PER_ROW >= 8 ? chunk ^ (row & 7) : chunk ^ ((row >> 1) & 3);
    return (row * CHUNKS_PER_ROW + swizzled) * 8;
}

// V-JEPA 2's and 2.1's rotation over three axes: time, row and column of a token, in this token order (transformers,
// models/vjepa2, rotate_queries_or_keys). Each axis rotates D / 6 pairs of adjacent values by angles of the token's position
// on that axis; the values that are left are not rotated.
//
// The table has, for every axis, position and pair, one float4: the cosines of the pair's even and odd value, then their sines
// with the sign of the rotation. (V-JEPA 2 uses different frequencies for the two values of a pair, V-JEPA 2.1 the same.) Its
// last entry is the identity.
template <typename Element, int D>
struct AxesRotation {
    static constexpr int PAIRS = D / 3 / 2;  // per axis
    int rows, columns, last_token;
    uint32_t frame_tokens, frame_reciprocal, column_reciprocal;
    int first_entry[4], axis[4];  // of the four pairs of this thread's chunk; axis 3 is "not rotated"

    __device__ __forceinline__ AxesRotation(int thread, int tokens, int rows_, int columns_)
        : rows(rows_), columns(columns_), last_token(tokens - 1) {
        frame_tokens = rows * columns;
        frame_reciprocal = 0xFFFFFFFFu / frame_tokens + 1;
        column_reciprocal = 0xFFFFFFFFu / columns + 1;
        const int times = (tokens + frame_tokens - 1) / frame_tokens;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int pair = thread % (D / 8) * 4 + i;
            axis[i] = min(pair / PAIRS, 3);
            const int before = axis[i] == 0 ? 0 : axis[i] == 1 ? times : axis[i] == 2 ? times + rows : times + rows + columns;
            first_entry[i] = before * PAIRS + (axis[i] == 3 ? 0 : pair % PAIRS);
        }
    }

    // Entries of the table that go into shared memory: all.
    static __device__ __forceinline__ int shared_entries(int tokens, int rows, int columns) {
        return ((tokens + rows * columns - 1) / (rows * columns) + rows + columns) * PAIRS + 1;
    }

    // Row and chunk, within a tile, of this thread's i-th chunk. All chunks of a thread are the same part of their rows.
    static __device__ __forceinline__ int row(int thread, int i) { return (i * THREADS + thread) / (D / 8); }
    static __device__ __forceinline__ int chunk(int thread, int) { return thread % (D / 8); }

    // Rotate this thread's chunks in place. first_token: of the tile. table: in shared memory.
    template <int CHUNKS>
    __device__ __forceinline__ void rotate(uint4 (&chunks)[CHUNKS], int thread, int first_token, const float4* table) const {
        uint32_t* registers = reinterpret_cast<uint32_t*>(chunks);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int last_entry = -1;
            float4 angle{1, 1, 0, 0};
#pragma unroll
            for (int c = 0; c < CHUNKS; ++c) {
                const uint32_t token = min(first_token + row(thread, c), last_token);  // rows past the end have no angle
                const uint32_t time = quotient(token, frame_tokens, frame_reciprocal);
                const uint32_t in_frame = token - time * frame_tokens;
                const uint32_t frame_row = quotient(in_frame, columns, column_reciprocal);
                const uint32_t column = in_frame - frame_row * columns;
                const int position = axis[i] == 0 ? time : axis[i] == 1 ? frame_row : axis[i] == 2 ? column : 0;
                const int entry = first_entry[i] + position * PAIRS;
                if (entry != last_entry) {  // rows of a tile often share the time and the column
                    angle = table[entry];
                    last_entry = entry;
                }
                const float2 x = Element::unpack(registers[c * 4 + i]);
                registers[c * 4 + i] = Element::pack(x.x * angle.x + x.y * angle.z, x.y * angle.y + x.x * angle.w);
            }
        }
    }

    // value / divisor by one multiplication, where reciprocal = 2^32 / divisor rounded up. Exact for values below 65,536.
    static __device__ __forceinline__ uint32_t quotient(uint32_t value, uint32_t divisor, uint32_t reciprocal) {
        return divisor == 1 ? value : __umulhi(value, reciprocal);
    }
};

// Llama's rotation (transformers, models/llama, rotate_half): value d is rotated together with value d + D / 2 by the angle
// position * frequency(d). With position = FINE_POSITIONS * coarse + fine, the angle is the sum of a fine and a coarse one, and
// its cosine and sine follow from the addition theorems in fp32. The fine angles are in shared memory; the coarse ones follow
// them in global memory, where a thread reads 64 bytes of them for a tile.
template <typename Element, int D>
struct HalvesRotation {
    static constexpr int UNITS = D / 16;  // a unit: eight adjacent values and the eight that are rotated with them
    const float4* coarse;
    int last_token;

    __device__ __forceinline__ HalvesRotation(const float4* coarse_, int tokens) : coarse(coarse_), last_token(tokens - 1) {}

    // Entries of the table that go into shared memory: the fine angles.
    static __device__ __forceinline__ int shared_entries() { return 4 * FINE_POSITIONS * UNITS; }

    static __device__ __forceinline__ int row(int thread, int i) { return (i / 2 * THREADS + thread) / UNITS; }
    static __device__ __forceinline__ int chunk(int thread, int i) { return thread % UNITS + i % 2 * UNITS; }

    // As in AxesRotation.
    template <int CHUNKS>
    __device__ __forceinline__ void rotate(uint4 (&chunks)[CHUNKS], int thread, int first_token, const float4* fine) const {
        const int unit = thread % UNITS;
#pragma unroll
        for (int c = 0; c < CHUNKS; c += 2) {
            const int token = min(first_token + row(thread, c), last_token);
            uint32_t* low = reinterpret_cast<uint32_t*>(&chunks[c]);
            uint32_t* high = reinterpret_cast<uint32_t*>(&chunks[c + 1]);
#pragma unroll
            for (int i = 0; i < 4; ++i) {  // an entry: cosine and sine of one value, cosine and sine of the next
                const float4 a = fine[(i * FINE_POSITIONS + token % FINE_POSITIONS) * UNITS + unit];
                const float4 b = coarse[(token / FINE_POSITIONS * UNITS + unit) * 4 + i];
                const float2 cosine{a.x * b.x - a.y * b.y, a.z * b.z - a.w * b.w};
                const float2 sine{a.y * b.x + a.x * b.y, a.w * b.z + a.z * b.w};
                const float2 x = Element::unpack(low[i]), y = Element::unpack(high[i]);
                low[i] = Element::pack(x.x * cosine.x - y.x * sine.x, x.y * cosine.y - y.y * sine.y);
                high[i] = Element::pack(y.x * cosine.x + x.x * sine.x, y.y * cosine.y + x.y * sine.y);
            }
        }
    }
};

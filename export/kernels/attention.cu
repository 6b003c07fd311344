// Attention with rotary positions, straight from the packed projection: softmax(rotate(q) rotate(k)^T / sqrt(D)) v.
//
// The algorithm is FlashAttention-2 (arXiv 2307.08691): a block of four warps keeps its queries in registers and walks over the
// keys tile by tile; for every query it keeps the largest score, the sum of the weights and the weighted sum of the values, in
// fp32. Rotation is part of loading: while one tile of keys is multiplied, the next one waits in registers, is rotated there
// and then stored to shared memory, so that rotated keys never reach global memory. Values are copied asynchronously.
//
//   qkv       [batch, tokens, (heads + 2 * kv_heads) * D]: queries, keys and values of all heads; fp16 or bf16; 16-byte aligned
//   rotary    the table of cosines and sines (rotary.cuh), built by vlj_edge/cuda/attention.py
//   key_mask  [batch, tokens], 1 for a key that is attended to, 0 for padding; a query with no key left gets zeros
//   out       [batch, tokens, heads * D], of qkv's type
//   grid      (ceil(tokens / Tiling<D>::QUERIES), heads, batch), block 128, no dynamic shared memory
//
// All shared memory is static and within 48 KiB, so that neither TensorRT nor any other caller has to request more of it.
//
// Compiled are the variants that TensorRT plugins launch (export/onnx/plugins.py): the vision encoder's rotation over axes
// without a mask, and the predictor's rotation of halves with one; fp16 and bf16; heads of 32 and 64 values.

#include "rotary.cuh"

namespace {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
constexpr int WIDE_HEAD_KEYS = 64;
#else
constexpr int WIDE_HEAD_KEYS = 32;  // Turing copies values through registers, and larger tiles would spill
#endif

template <int D>
struct Tiling {
    static_assert(D == 32 || D == 64);
    static constexpr int KEYS = D == 64 ? WIDE_HEAD_KEYS : 64;  // per tile
    static constexpr int STRIPS = 2;                            // of 16 queries per warp, which share every load of a tile
    static constexpr int QUERIES = 4 * 16 * STRIPS;             // per block
    static constexpr int CHUNKS = KEYS * D / 8 / THREADS;       // of 16 bytes that a thread loads per tile
};

template <int D>
struct SharedMemory {
    uint16_t tiles[4][Tiling<D>::KEYS * D];  // two of keys, two of values; first used for queries, last for the output
    float4 rotary[ROTARY_ENTRIES];
};

// One head's rows in the packed tensor.
struct HeadRows {
    const uint16_t* first;
    int stride;  // values from one token to the next; a sequence has fewer than 2^31 values
    int tokens;

    __device__ __forceinline__ const uint16_t* at(int token, int chunk) const { return first + (token * stride + chunk * 8); }
};

// Load this thread's chunks of a tile into registers; zeros past the last token.
template <typename Rotation, int CHUNKS>
__device__ __forceinline__ void load_chunks(uint4 (&chunks)[CHUNKS], const HeadRows& rows, int first_token, int thread) {
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
        const int token = first_token + Rotation::row(thread, i);
        chunks[i] = uint4{0, 0, 0, 0};
        if (token < rows.tokens)
            chunks[i] = *reinterpret_cast<const uint4*>(rows.at(token, Rotation::chunk(thread, i)));
    }
}

template <typename Rotation, int D, int CHUNKS>
__device__ __forceinline__ void store_chunks(uint16_t* tile, const uint4 (&chunks)[CHUNKS], int thread) {
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i)
        *reinterpret_cast<uint4*>(tile + chunk_offset<D>(Rotation::row(thread, i), Rotation::chunk(thread, i))) = chunks[i];
}

template <int D, int KEYS>
__device__ __forceinline__ void copy_values(uint16_t* tile, const HeadRows& rows, int first_token, int thread) {
#pragma unroll
    for (int i = 0; i < KEYS * D / 8 / THREADS; ++i) {
        const int row = (i * THREADS + thread) / (D / 8), chunk = thread % (D / 8);
        const bool valid = first_token + row < rows.tokens;
        copy_async(tile + chunk_offset<D>(row, chunk), rows.at(valid ? first_token + row : 0, chunk), valid);
    }
}

// One bit per key of a tile: it exists and is not masked. key_mask may be null.
template <int KEYS>
__device__ __forceinline__ void visible_keys(
    uint32_t (&visible)[KEYS / 32], const uint8_t* key_mask, int first_key, int tokens, int lane) {
#pragma unroll
    for (int i = 0; i < KEYS / 32; ++i) {
        const int key = first_key + i * 32 + lane;
        visible[i] = warp_ballot(key < tokens && (key_mask == nullptr || key_mask[min(key, tokens - 1)] != 0));
    }
}

// The running softmax of a strip of 16 queries. A lane has two of them: lane / 4, and the one 8 after it.
struct RunningSoftmax {
    float largest[2] = {-INFINITY, -INFINITY};
    float sum[2] = {0, 0};  // over this lane's share of the keys
};

// Turn a tile's scores into weights, in place, and rescale the sums so far to the new largest score.
template <int KEYS, int D>
__device__ __forceinline__ void online_softmax(float (&scores)[KEYS / 8][4], float (&sums)[D / 8][4], RunningSoftmax& running) {
    // exp(x / sqrt(D)) = 2^(x * log2(e) / sqrt(D))
    const float scale = 1.4426950408889634f * (D == 32 ? 0.17677669529663687f : 0.125f);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float largest = running.largest[half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
            largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        largest = fmaxf(largest, shuffle_xor(largest, 1));
        largest = fmaxf(largest, shuffle_xor(largest, 2));
        const float base = largest == -INFINITY ? 0.0f : largest * scale;  // no visible key yet: weights of 0, not NaN
        const float shrink = exp2_approx(running.largest[half] * scale - base);
        running.largest[half] = largest;
        float sum = running.sum[half] * shrink;
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; ++i) {
                scores[n][i] = exp2_approx(fmaf(scores[n][i], scale, -base));
                sum += scores[n][i];
            }
        }
        running.sum[half] = sum;
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
            sums[n][2 * half] *= shrink;
            sums[n][2 * half + 1] *= shrink;
        }
    }
}

// Rotate the block's queries and load them from shared memory into registers, as matrix A of mma.m16n8k16 (PTX ISA).
template <int D, typename Rotation>
__device__ __forceinline__ void load_queries(
    uint32_t (&q)[Tiling<D>::STRIPS][D / 16][4], SharedMemory<D>& memory, const Rotation& rotation, const HeadRows& queries) {
    constexpr int KEYS = Tiling<D>::KEYS, STRIPS = Tiling<D>::STRIPS, QUERIES = Tiling<D>::QUERIES;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    uint4 chunks[Tiling<D>::CHUNKS];
#pragma unroll
    for (int part = 0; part < QUERIES / KEYS; ++part) {
        const int first_query = blockIdx.x * QUERIES + part * KEYS;
        load_chunks<Rotation>(chunks, queries, first_query, thread);
        rotation.rotate(chunks, thread, first_query, memory.rotary);
        store_chunks<Rotation, D>(memory.tiles[part], chunks, thread);
    }
    __syncthreads();
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
        for (int k = 0; k < D / 16; ++k) {
            const int row = (warp * STRIPS + strip) * 16 + lane % 16;
            load_matrices(q[strip][k], memory.tiles[row / KEYS] + chunk_offset<D>(row % KEYS, 2 * k ^ lane / 16));
        }
    __syncthreads();
}

// Divide by the sums of the weights and write the output, through shared memory so that whole chunks are written. A warp
// touches only its own rows.
template <typename Element, int D>
__device__ __forceinline__ void store_output(
    SharedMemory<D>& memory, const float (&sums)[Tiling<D>::STRIPS][D / 8][4],
    const RunningSoftmax (&running)[Tiling<D>::STRIPS], uint16_t* out, int out_stride, int tokens) {
    constexpr int KEYS = Tiling<D>::KEYS, STRIPS = Tiling<D>::STRIPS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first_query = blockIdx.x * Tiling<D>::QUERIES;
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float sum = running[strip].sum[half];
            sum += shuffle_xor(sum, 1);
            sum += shuffle_xor(sum, 2);
            const float inverse = sum > 0 ? 1 / sum : 0;
            const int row = (warp * STRIPS + strip) * 16 + half * 8 + lane / 4;
#pragma unroll
            for (int n = 0; n < D / 8; ++n)
                *reinterpret_cast<uint32_t*>(memory.tiles[row / KEYS] + chunk_offset<D>(row % KEYS, n) + lane % 4 * 2) =
                    Element::pack(sums[strip][n][2 * half] * inverse, sums[strip][n][2 * half + 1] * inverse);
        }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < STRIPS * 16 * D / 8 / 32; ++i) {
        const int row = warp * STRIPS * 16 + (i * 32 + lane) / (D / 8), chunk = lane % (D / 8);
        if (first_query + row < tokens)
            *reinterpret_cast<uint4*>(out + (first_query + row) * out_stride + chunk * 8) =
                *reinterpret_cast<const uint4*>(memory.tiles[row / KEYS] + chunk_offset<D>(row % KEYS, chunk));
    }
}

// One block: attention of Tiling<D>::QUERIES queries of one head to all keys.
template <typename Element, int D, typename Rotation>
__device__ __forceinline__ void attend(
    SharedMemory<D>& memory, const Rotation& rotation, const HeadRows& queries, const HeadRows& keys, const HeadRows& values,
    const uint8_t* key_mask, uint16_t* out, int out_stride) {
    constexpr int KEYS = Tiling<D>::KEYS, STRIPS = Tiling<D>::STRIPS;
    const int thread = threadIdx.x, lane = thread % 32, tokens = keys.tokens;
    const int tiles = (tokens + KEYS - 1) / KEYS;
    uint32_t q[STRIPS][D / 16][4];
    load_queries<D>(q, memory, rotation, queries);

    uint4 chunks[Tiling<D>::CHUNKS];
    copy_values<D, KEYS>(memory.tiles[2], values, 0, thread);
    load_chunks<Rotation>(chunks, keys, 0, thread);
    rotation.rotate(chunks, thread, 0, memory.rotary);
    store_chunks<Rotation, D>(memory.tiles[0], chunks, thread);
    wait_for_copies();
    __syncthreads();

    float sums[STRIPS][D / 8][4] = {};
    RunningSoftmax running[STRIPS];
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
        const bool more = tile + 1 < tiles;
        if (more) copy_values<D, KEYS>(memory.tiles[2 + (tile + 1) % 2], values, (tile + 1) * KEYS, thread);

        // scores = q k^T
        const uint16_t* k_tile = memory.tiles[tile % 2];
        float scores[STRIPS][KEYS / 8][4] = {};
#pragma unroll
        for (int k = 0; k < D / 16; ++k)
#pragma unroll
            for (int n = 0; n < KEYS / 16; ++n) {  // 16 keys: two registers of matrix B for the first eight, two for the others
                uint32_t b[4];
                load_matrices(b, k_tile + chunk_offset<D>(n * 16 + lane % 8 + lane / 16 * 8, 2 * k ^ lane / 8 % 2));
#pragma unroll
                for (int strip = 0; strip < STRIPS; ++strip) {
                    Element::multiply(scores[strip][2 * n], q[strip][k], b[0], b[1]);
                    Element::multiply(scores[strip][2 * n + 1], q[strip][k], b[2], b[3]);
                }
            }
        if (more) load_chunks<Rotation>(chunks, keys, (tile + 1) * KEYS, thread);  // arrive during the softmax

        // Masked keys get a score of minus infinity.
        uint32_t visible[KEYS / 32];
        visible_keys<KEYS>(visible, key_mask, tile * KEYS, tokens, lane);
        if ((visible[0] & visible[KEYS / 32 - 1]) != ~0u) {
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
                const uint32_t pair = visible[n / 4] >> lane % 4 * 2;  // a lane has two adjacent ones of every eight keys
#pragma unroll
                for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
                    for (int i = 0; i < 4; ++i)
                        if (!(pair & 1u << (n % 4 * 8 + i % 2))) scores[strip][n][i] = -INFINITY;
            }
        }
#pragma unroll
        for (int strip = 0; strip < STRIPS; ++strip) online_softmax<KEYS, D>(scores[strip], sums[strip], running[strip]);
        if (more) {  // the tile written here was last read before the previous barrier
            rotation.rotate(chunks, thread, (tile + 1) * KEYS, memory.rotary);
            store_chunks<Rotation, D>(memory.tiles[(tile + 1) % 2], chunks, thread);
        }

        // sums += weights v
        const uint16_t* v_tile = memory.tiles[2 + tile % 2];
#pragma unroll
        for (int k = 0; k < KEYS / 16; ++k) {
            uint32_t weights[STRIPS][4];  // an accumulator of one product has the layout of matrix A of the next
#pragma unroll
            for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    weights[strip][i] = Element::pack(scores[strip][2 * k + i / 2][i % 2 * 2], scores[strip][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
            for (int n = 0; n < D / 16; ++n) {
                uint32_t b[4];
                load_matrices_transposed(b, v_tile + chunk_offset<D>(k * 16 + lane % 16, 2 * n ^ lane / 16));
#pragma unroll
                for (int strip = 0; strip < STRIPS; ++strip) {
                    Element::multiply(sums[strip][2 * n], weights[strip], b[0], b[1]);
                    Element::multiply(sums[strip][2 * n + 1], weights[strip], b[2], b[3]);
                }
            }
        }
        wait_for_copies();
        __syncthreads();
    }
    store_output<Element, D>(memory, sums, running, out, out_stride, tokens);
}

// Find this block's head in the packed tensor, load the rotary table into shared memory, and attend.
template <typename Element, int D, typename MakeRotation>
__device__ __forceinline__ void attend_packed(
    const uint16_t* qkv, const float4* rotary, int shared_entries, const uint8_t* key_mask, int tokens, int heads,
    int kv_heads, uint16_t* out, MakeRotation make_rotation) {
    SHARED(SharedMemory<D>, memory);
    const int head = blockIdx.y, kv_head = head / (heads / kv_heads);
    const int stride = (heads + 2 * kv_heads) * D;
    const uint16_t* first = qkv + static_cast<int64_t>(blockIdx.z) * tokens * stride;
    const HeadRows queries{first + head * D, stride, tokens};
    const HeadRows keys{first + (heads + kv_head) * D, stride, tokens};
    const HeadRows values{first + (heads + kv_heads + kv_head) * D, stride, tokens};
    for (int i = threadIdx.x; i < shared_entries; i += THREADS) memory.rotary[i] = rotary[i];
    __syncthreads();
    attend<Element, D>(
        memory, make_rotation(), queries, keys, values,
        key_mask == nullptr ? nullptr : key_mask + static_cast<int64_t>(blockIdx.z) * tokens,
        out + (static_cast<int64_t>(blockIdx.z) * tokens * heads + head) * D, heads * D);
}

}  // namespace

// Parameters are in the order that TensorRT uses for plugins compiled ahead of time: inputs, integers, outputs.
#define ATTENTION(dtype, Element, D)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_axes_##dtype##_##D(                                \
        const uint16_t* qkv, const float4* rotary, int tokens, int heads, int kv_heads, int rows, int columns,            \
        uint16_t* out) {                                                                                                  \
        using Rotation = AxesRotation<Element, D>;                                                                        \
        attend_packed<Element, D>(qkv, rotary, Rotation::shared_entries(tokens, rows, columns), nullptr, tokens, heads,   \
                                  kv_heads, out, [=] { return Rotation(threadIdx.x, tokens, rows, columns); });           \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_halves_##dtype##_##D(                              \
        const uint16_t* qkv, const float4* rotary, const uint8_t* key_mask, int tokens, int heads, int kv_heads,          \
        uint16_t* out) {                                                                                                  \
        using Rotation = HalvesRotation<Element, D>;                                                                      \
        attend_packed<Element, D>(qkv, rotary, Rotation::shared_entries(), key_mask, tokens, heads, kv_heads, out,        \
                                  [=] { return Rotation(rotary + Rotation::shared_entries(), tokens); });                 \
    }

ATTENTION(fp16, Fp16, 32)
ATTENTION(fp16, Fp16, 64)
#ifdef HAS_BF16
ATTENTION(bf16, Bf16, 32)
ATTENTION(bf16, Bf16, 64)
#endif

// Attention that rotates as it loads: softmax(turn(q) turn(k)^T / sqrt(D)) v, straight from the packed projection.
//
// FlashAttention-2 (arXiv 2307.08691): a block of four warps has its queries in registers, walks over the keys tile by tile,
// and keeps for every query the largest score, the sum of the weights and the weighted sum of the values, in fp32. What is
// new is on the way in: the keys of the next tile wait in registers while this one is multiplied; they are turned there and
// then put into shared memory, so that rotated keys are never written to the card's memory. Values come by asynchronous
// copy.
//
//   qkv   [batch, tokens, (heads + 2 * kv_heads) * D]: queries, keys, values of all heads; 16-bit; 16-byte aligned
//   turns see rotate.cuh; made by vlj_edge/kernels.py
//   seen  [batch, tokens], 1 where a key may be seen, 0 where it is padding. A query that sees nothing gets zeros.
//   out   [batch, tokens, heads * D]
//   grid  (ceil(tokens / Shape<D>::QUERIES), heads, batch), block 128, no dynamic shared memory
//
// All shared memory is static and within 48 KiB, so that whoever launches the kernel, TensorRT included, has nothing to ask
// the driver for.

#include "rotate.cuh"

namespace {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
constexpr int WIDE_TILE = 64;
#else
constexpr int WIDE_TILE = 32;  // Turing's copies pass through registers, of which wider tiles leave none
#endif

template <int D>
struct Shape {
    static constexpr int PLACES = D == 128 ? 32 : 64;           // of which `turns` knows the angles (rotate.cuh)
    static constexpr int KEYS = D == 64 ? WIDE_TILE : PLACES;   // of a tile
    static constexpr int STRIPS = D == 128 ? 1 : 2;             // of 16 queries a warp: two share every load of a tile
    static constexpr int QUERIES = 4 * 16 * STRIPS;             // of a block
    static constexpr int CHUNKS = KEYS * D / 8 / THREADS;       // of 16 bytes that a thread loads of a tile
};

template <int D>
struct Memory {
    uint16_t tiles[4][Shape<D>::KEYS * D];  // two of keys, two of values; before them queries, after them what is written
    float4 turns[TURNS];
};

// One head's rows in a packed tensor.
struct Rows {
    const uint16_t* first;
    int stride;  // values from one token to the next; of a sequence there are fewer than 2^31
    int tokens;

    __device__ __forceinline__ const uint16_t* at(int token, int chunk) const { return first + (token * stride + chunk * 8); }
};

template <typename Rotation, int CHUNKS>
__device__ __forceinline__ void fetch(uint4 (&held)[CHUNKS], const Rows& rows, int first, int thread) {
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
        const int token = first + Rotation::row(thread, i);
        held[i] = uint4{0, 0, 0, 0};
        if (token < rows.tokens)
            held[i] = *reinterpret_cast<const uint4*>(rows.at(token, Rotation::chunk(thread, i)));
    }
}

template <typename Rotation, int D, int CHUNKS>
__device__ __forceinline__ void put(uint16_t* tile, const uint4 (&held)[CHUNKS], int thread) {
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i)
        *reinterpret_cast<uint4*>(tile + chunk_at<D>(Rotation::row(thread, i), Rotation::chunk(thread, i))) = held[i];
}

template <int D, int KEYS>
__device__ __forceinline__ void copy_values(uint16_t* tile, const Rows& rows, int first, int thread) {
#pragma unroll
    for (int i = 0; i < KEYS * D / 8 / THREADS; ++i) {
        const int row = (i * THREADS + thread) / (D / 8), chunk = thread % (D / 8);
        const bool there = first + row < rows.tokens;
        copy_async(tile + chunk_at<D>(row, chunk), rows.at(there ? first + row : 0, chunk), there);
    }
}

// One bit a key of this tile: is it there, and may it be seen?
template <int KEYS>
__device__ __forceinline__ void look(uint32_t (&visible)[KEYS / 32], const uint8_t* seen, int first, int tokens, int lane) {
#pragma unroll
    for (int i = 0; i < KEYS / 32; ++i) {
        const int key = first + i * 32 + lane;
        visible[i] = lanes_where(key < tokens && (seen == nullptr || seen[min(key, tokens - 1)] != 0));
    }
}

// The running softmax of a strip of 16 queries: this lane has two of them, lane / 4 and 8 more.
struct Running {
    float largest[2] = {-INFINITY, -INFINITY};
    float sum[2] = {0, 0};  // of this lane's share of the keys
};

// Scores to weights, in place; what was summed before is scaled down to the new largest score.
template <int KEYS, int D>
__device__ __forceinline__ void weigh(float (&scores)[KEYS / 8][4], float (&sums)[D / 8][4], Running& running) {
    // exp(x / sqrt(D)) is 2^(x * scale)
    const float scale = 1.4426950408889634f * (D == 32 ? 0.17677669529663687f : D == 64 ? 0.125f : 0.08838834764831845f);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float largest = running.largest[half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
            largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        largest = fmaxf(largest, from_lane(largest, 1));
        largest = fmaxf(largest, from_lane(largest, 2));
        const float base = largest == -INFINITY ? 0.0f : largest * scale;  // nothing seen yet: weights of 0, not NaN
        const float shrink = power_of_two(running.largest[half] * scale - base);
        running.largest[half] = largest;
        float sum = running.sum[half] * shrink;
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; ++i) {
                scores[n][i] = power_of_two(fmaf(scores[n][i], scale, -base));
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

template <typename Element, int D, typename Rotation>
__device__ __forceinline__ void attend(
    Memory<D>& memory, const Rotation& rotation, const Rows& queries, const Rows& keys, const Rows& values,
    const uint8_t* seen, uint16_t* out, int out_stride) {
    constexpr int KEYS = Shape<D>::KEYS, STRIPS = Shape<D>::STRIPS, QUERIES = Shape<D>::QUERIES, CHUNKS = Shape<D>::CHUNKS;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int first_query = blockIdx.x * QUERIES, tokens = keys.tokens;
    const int tiles = (tokens + KEYS - 1) / KEYS;
    uint4 held[CHUNKS];

    // Queries: turned, through shared memory, into registers in the form that products want (PTX ISA, m16n8k16, matrix A).
    uint32_t q[STRIPS][D / 16][4];
#pragma unroll
    for (int part = 0; part < QUERIES / KEYS; ++part) {
        fetch<Rotation>(held, queries, first_query + part * KEYS, thread);
        rotation.turn(held, thread, first_query + part * KEYS, memory.turns);
        put<Rotation, D>(memory.tiles[part], held, thread);
    }
    __syncthreads();
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
        for (int k = 0; k < D / 16; ++k) {
            const int row = (warp * STRIPS + strip) * 16 + lane % 16;
            load_matrices(q[strip][k], memory.tiles[row / KEYS] + chunk_at<D>(row % KEYS, 2 * k ^ lane / 16));
        }
    __syncthreads();

    copy_values<D, KEYS>(memory.tiles[2], values, 0, thread);
    fetch<Rotation>(held, keys, 0, thread);
    rotation.turn(held, thread, 0, memory.turns);
    put<Rotation, D>(memory.tiles[0], held, thread);
    wait_for_copies();
    __syncthreads();

    float sums[STRIPS][D / 8][4] = {};
    Running running[STRIPS];
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
        const bool more = tile + 1 < tiles;
        if (more) copy_values<D, KEYS>(memory.tiles[2 + (tile + 1) % 2], values, (tile + 1) * KEYS, thread);
        const uint16_t* k_tile = memory.tiles[tile % 2];
        float scores[STRIPS][KEYS / 8][4] = {};
#pragma unroll
        for (int k = 0; k < D / 16; ++k)
#pragma unroll
            for (int n = 0; n < KEYS / 16; ++n) {  // 16 keys: two columns of b for the first eight, two for the others
                uint32_t b[4];
                load_matrices(b, k_tile + chunk_at<D>(n * 16 + lane % 8 + lane / 16 * 8, 2 * k ^ lane / 8 % 2));
#pragma unroll
                for (int strip = 0; strip < STRIPS; ++strip) {
                    Element::multiply(scores[strip][2 * n], q[strip][k], b[0], b[1]);
                    Element::multiply(scores[strip][2 * n + 1], q[strip][k], b[2], b[3]);
                }
            }
        if (more) fetch<Rotation>(held, keys, (tile + 1) * KEYS, thread);  // on their way during the softmax
        uint32_t visible[KEYS / 32];
        look<KEYS>(visible, seen, tile * KEYS, tokens, lane);
        if ((visible[0] & visible[KEYS / 32 - 1]) != ~0u) {
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
                const uint32_t pair = visible[n / 4] >> lane % 4 * 2;  // this lane has two neighbours of every eight keys
#pragma unroll
                for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
                    for (int i = 0; i < 4; ++i)
                        if (!(pair & 1u << (n % 4 * 8 + i % 2))) scores[strip][n][i] = -INFINITY;
            }
        }
#pragma unroll
        for (int strip = 0; strip < STRIPS; ++strip) weigh<KEYS, D>(scores[strip], sums[strip], running[strip]);
        if (more) {  // nobody reads these keys' place: the last tile's barrier is behind everybody
            rotation.turn(held, thread, (tile + 1) * KEYS, memory.turns);
            put<Rotation, D>(memory.tiles[(tile + 1) % 2], held, thread);
        }
        const uint16_t* v_tile = memory.tiles[2 + tile % 2];
#pragma unroll
        for (int k = 0; k < KEYS / 16; ++k) {
            uint32_t weights[STRIPS][4];  // what the product before gave lies as the next one wants it
#pragma unroll
            for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    weights[strip][i] = Element::pack(scores[strip][2 * k + i / 2][i % 2 * 2], scores[strip][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
            for (int n = 0; n < D / 16; ++n) {
                uint32_t b[4];
                load_matrices_transposed(b, v_tile + chunk_at<D>(k * 16 + lane % 16, 2 * n ^ lane / 16));
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

    // Through shared memory, so that whole chunks are written. A warp touches its own rows alone.
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float sum = running[strip].sum[half];
            sum += from_lane(sum, 1);
            sum += from_lane(sum, 2);
            const float share = sum > 0 ? 1 / sum : 0;
            const int row = (warp * STRIPS + strip) * 16 + half * 8 + lane / 4;
#pragma unroll
            for (int n = 0; n < D / 8; ++n)
                *reinterpret_cast<uint32_t*>(memory.tiles[row / KEYS] + chunk_at<D>(row % KEYS, n) + lane % 4 * 2) =
                    Element::pack(sums[strip][n][2 * half] * share, sums[strip][n][2 * half + 1] * share);
        }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < STRIPS * 16 * D / 8 / 32; ++i) {
        const int row = warp * STRIPS * 16 + (i * 32 + lane) / (D / 8), chunk = lane % (D / 8);
        if (first_query + row < tokens)
            *reinterpret_cast<uint4*>(out + (first_query + row) * out_stride + chunk * 8) =
                *reinterpret_cast<const uint4*>(memory.tiles[row / KEYS] + chunk_at<D>(row % KEYS, chunk));
    }
}

template <typename Element, int D, typename MakeRotation>
__device__ __forceinline__ void attend_packed(
    const uint16_t* qkv, const float4* turns, int entries, const uint8_t* seen, int tokens, int heads, int kv_heads,
    uint16_t* out, MakeRotation make_rotation) {
    SHARED(Memory<D>, memory);
    const int head = blockIdx.y, kv_head = head / (heads / kv_heads);
    const int stride = (heads + 2 * kv_heads) * D;
    const uint16_t* first = qkv + static_cast<int64_t>(blockIdx.z) * tokens * stride;
    const Rows queries{first + head * D, stride, tokens};
    const Rows keys{first + (heads + kv_head) * D, stride, tokens};
    const Rows values{first + (heads + kv_heads + kv_head) * D, stride, tokens};
    for (int i = threadIdx.x; i < entries; i += THREADS) memory.turns[i] = turns[i];
    __syncthreads();
    attend<Element, D>(
        memory, make_rotation(), queries, keys, values,
        seen == nullptr ? nullptr : seen + static_cast<int64_t>(blockIdx.z) * tokens,
        out + (static_cast<int64_t>(blockIdx.z) * tokens * heads + head) * D, heads * D);
}

}  // namespace

// The order of parameters is TensorRT's for plugins that are compiled ahead: inputs, integers, outputs.
#define ATTENTION(element, Element, D)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_axes_##element##_##D(                             \
        const uint16_t* qkv, const float4* turns, int tokens, int heads, int kv_heads, int rows, int columns,            \
        uint16_t* out) {                                                                                                 \
        using Rotation = Axes<Element, D>;                                                                               \
        attend_packed<Element, D>(qkv, turns, Rotation::entries(tokens, rows, columns), nullptr, tokens, heads, kv_heads, \
                                  out, [=] { return Rotation(threadIdx.x, tokens, rows, columns); });                    \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_axes_masked_##element##_##D(                      \
        const uint16_t* qkv, const float4* turns, const uint8_t* seen, int tokens, int heads, int kv_heads, int rows,    \
        int columns, uint16_t* out) {                                                                                    \
        using Rotation = Axes<Element, D>;                                                                               \
        attend_packed<Element, D>(qkv, turns, Rotation::entries(tokens, rows, columns), seen, tokens, heads, kv_heads,   \
                                  out, [=] { return Rotation(threadIdx.x, tokens, rows, columns); });                    \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_halves_##element##_##D(                           \
        const uint16_t* qkv, const float4* turns, int tokens, int heads, int kv_heads, uint16_t* out) {                  \
        using Rotation = Halves<Element, D, Shape<D>::PLACES>;                                                             \
        attend_packed<Element, D>(qkv, turns, Rotation::entries(), nullptr, tokens, heads, kv_heads, out,                \
                                  [=] { return Rotation(turns + Rotation::entries(), tokens); });                        \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_halves_masked_##element##_##D(                    \
        const uint16_t* qkv, const float4* turns, const uint8_t* seen, int tokens, int heads, int kv_heads,              \
        uint16_t* out) {                                                                                                 \
        using Rotation = Halves<Element, D, Shape<D>::PLACES>;                                                             \
        attend_packed<Element, D>(qkv, turns, Rotation::entries(), seen, tokens, heads, kv_heads, out,                   \
                                  [=] { return Rotation(turns + Rotation::entries(), tokens); });                        \
    }

ATTENTION(fp16, Half, 32)
ATTENTION(fp16, Half, 64)
ATTENTION(fp16, Half, 128)
#ifdef HAS_BRAIN
ATTENTION(bf16, Brain, 32)
ATTENTION(bf16, Brain, 64)
ATTENTION(bf16, Brain, 128)
#endif

// Emulates thread blocks on the CPU, for the kernels' unchanged source. Every thread is a ucontext that runs until it waits for
// others: at a barrier, or in a warp-wide instruction, which is computed from the arguments of all 32 lanes in the layout that
// the PTX ISA defines.
//
// Mistakes that a GPU would accept silently are made visible:
// - shared memory starts as NaNs, and the target of an asynchronous copy holds NaNs until the thread waits for the copy;
// - a warp chosen at random runs as far ahead as it can, so that a missing barrier changes the result;
// - errors are: lanes in different warp-wide instructions, a barrier that some threads never reach, misaligned 16-byte
//   accesses, addresses outside shared memory, a copy that no thread waits for.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define SHARED(Type, name) Type& name = *static_cast<Type*>(host::shared_memory(sizeof(Type)))

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct Dimensions { unsigned x = 1, y = 1, z = 1; };

namespace host {

constexpr size_t STACK = 256 << 10, SHARED_MEMORY = 48 << 10;
enum class State { READY, AT_BARRIER, AT_WARP, DONE };

struct Copy { void* to; const void* from; bool valid; };

struct Thread {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    State state = State::READY;
    const char* instruction = "";  // the warp-wide one that it waits in
    void* argument = nullptr;
    void (*execute)(Thread*) = nullptr;  // called with the warp's first lane once all lanes have arrived
    std::vector<Copy> copies;
    Dimensions index;
};

struct Block {
    std::vector<Thread> threads;
    ucontext_t scheduler;
    Thread* running = nullptr;
    std::function<void()> body;
    alignas(128) unsigned char shared[SHARED_MEMORY];
    size_t shared_used = 0;
    std::string failure;
};

inline Block* block = nullptr;
inline Dimensions block_index, block_size, grid_size;

[[noreturn]] inline void fail(const std::string& why) {
    block->failure = why;
    swapcontext(&block->running->context, &block->scheduler);
    std::abort();
}

inline void* shared_memory(size_t size) {
    if (size > SHARED_MEMORY) fail("more shared memory than a block has");
    block->shared_used = std::max(block->shared_used, size);
    return block->shared;
}

inline void check_shared(const void* at, size_t size) {
    auto* first = static_cast<const unsigned char*>(at);
    if (first < block->shared || first + size > block->shared + block->shared_used) fail("an address outside shared memory");
    if (reinterpret_cast<uintptr_t>(at) % size) fail("a shared address that is not aligned");
}

inline void yield(State state) {
    block->running->state = state;
    swapcontext(&block->running->context, &block->scheduler);
}

// A warp-wide instruction: wait for the other lanes, then have `execute` run on the arguments of all.
inline void warp_instruction(const char* name, void* argument, void (*execute)(Thread*)) {
    block->running->instruction = name;
    block->running->argument = argument;
    block->running->execute = execute;
    yield(State::AT_WARP);
}

template <typename Argument>
Argument& argument(Thread* warp, int lane) { return *static_cast<Argument*>(warp[lane].argument); }

inline void enter() {
    block->body();
    block->running->state = State::DONE;
    swapcontext(&block->running->context, &block->scheduler);
}

inline void run_warp(Thread* warp) {
    for (int lane = 1; lane < 32; ++lane)
        if (std::strcmp(warp[lane].instruction, warp[0].instruction))
            throw std::runtime_error(std::string("lanes of a warp are in ") + warp[0].instruction + " and " + warp[lane].instruction);
    warp[0].execute(warp);
    for (int lane = 0; lane < 32; ++lane) warp[lane].state = State::READY;
}

inline bool all(Thread* first, size_t count, State state) {
    return std::all_of(first, first + count, [=](const Thread& thread) { return thread.state == state; });
}

// Run every thread of a warp that is ready, in random order, then the instruction they wait in.
inline void advance(Thread* warp, std::mt19937& random) {
    size_t order[32];
    for (size_t i = 0; i < 32; ++i) order[i] = i;
    std::shuffle(order, order + 32, random);
    for (size_t i : order) {
        if (warp[i].state != State::READY) continue;
        block->running = &warp[i];
        swapcontext(&block->scheduler, &warp[i].context);
        if (!block->failure.empty()) throw std::runtime_error(block->failure);
    }
    if (all(warp, 32, State::AT_WARP)) run_warp(warp);
}

inline bool can_run(Thread* warp) {
    return std::any_of(warp, warp + 32, [](const Thread& thread) { return thread.state == State::READY; });
}

// Run one block to its end. A random warp runs as far as it can before another one does.
inline void run_block(std::mt19937& random) {
    auto& threads = block->threads;
    std::vector<Thread*> warps;
    for (size_t first = 0; first < threads.size(); first += 32) warps.push_back(&threads[first]);
    for (;;) {
        std::vector<Thread*> running;
        std::copy_if(warps.begin(), warps.end(), std::back_inserter(running), can_run);
        if (!running.empty()) {
            Thread* warp = running[random() % running.size()];
            while (can_run(warp)) advance(warp, random);
        } else if (all(&threads[0], threads.size(), State::DONE)) {
            return;
        } else if (all(&threads[0], threads.size(), State::AT_BARRIER)) {
            for (auto& thread : threads) thread.state = State::READY;
        } else {
            throw std::runtime_error("deadlock: some threads never reach the barrier");
        }
    }
}

// kernel<<<grid, size>>>(), one block after the other.
inline void launch(Dimensions grid, unsigned size, unsigned seed, const std::function<void()>& kernel) {
    static Block memory;
    std::mt19937 random(seed);
    grid_size = grid;
    block_size = {size, 1, 1};
    block = &memory;
    for (block_index.z = 0; block_index.z < grid.z; ++block_index.z)
        for (block_index.y = 0; block_index.y < grid.y; ++block_index.y)
            for (block_index.x = 0; block_index.x < grid.x; ++block_index.x) {
                if (size % 32) throw std::runtime_error("a block consists of whole warps");
                memory.threads.resize(size);
                memory.body = kernel;
                memory.failure.clear();
                memory.shared_used = 0;
                std::memset(memory.shared, 0xFF, SHARED_MEMORY);  // NaN as fp16, bf16 and fp32
                for (unsigned i = 0; i < size; ++i) {
                    Thread& thread = memory.threads[i];
                    thread.index = {i, 0, 0};
                    thread.state = State::READY;
                    thread.copies.clear();
                    getcontext(&thread.context);
                    thread.context.uc_stack = {thread.stack.data(), 0, STACK};
                    thread.context.uc_link = nullptr;
                    makecontext(&thread.context, enter, 0);
                }
                run_block(random);
                for (auto& thread : memory.threads)
                    if (!thread.copies.empty()) throw std::runtime_error("a copy that no thread waited for");
            }
}

}  // namespace host

#define threadIdx (host::block->running->index)
#define blockIdx host::block_index
#define blockDim host::block_size
#define gridDim host::grid_size

inline void __syncthreads() { host::yield(host::State::AT_BARRIER); }
inline void __syncwarp() { host::warp_instruction("syncwarp", nullptr, [](host::Thread*) {}); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint64_t>(a) * b >> 32; }
inline float __fmul_rn(float a, float b) { volatile float product = a * b; return product; }
inline float __fadd_rn(float a, float b) { volatile float sum = a + b; return sum; }
using std::max;
using std::min;

inline uint32_t bits_of(float value) { uint32_t bits; std::memcpy(&bits, &value, 4); return bits; }
inline float float_of(uint32_t bits) { float value; std::memcpy(&value, &bits, 4); return value; }

// mma.m16n8k16: sum += a b, with fragments as in the PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"
struct Fragments { float* sum; const uint32_t* a; uint32_t b[2]; };

template <typename Element>
void multiply_matrices(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    Fragments mine{sum, a, {b0, b1}};
    host::warp_instruction("mma", &mine, [](host::Thread* warp) {
        float a[16][16], b[16][8];
        for (int lane = 0; lane < 32; ++lane) {
            const Fragments& from = host::argument<Fragments>(warp, lane);
            const int group = lane / 4, pair = lane % 4 * 2;
            for (int i = 0; i < 4; ++i) {
                const float2 values = Element::unpack(from.a[i]);
                a[group + i % 2 * 8][pair + i / 2 * 8] = values.x;
                a[group + i % 2 * 8][pair + i / 2 * 8 + 1] = values.y;
            }
            for (int i = 0; i < 2; ++i) {
                const float2 values = Element::unpack(from.b[i]);
                b[pair + i * 8][group] = values.x;
                b[pair + i * 8 + 1][group] = values.y;
            }
        }
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i) {
                float& sum = host::argument<Fragments>(warp, lane).sum[i];
                for (int k = 0; k < 16; ++k) sum += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
            }
    });
}

struct Fp16 {
    static uint16_t narrow(float value) { _Float16 half = value; uint16_t bits; std::memcpy(&bits, &half, 2); return bits; }
    static float widen(uint16_t bits) { _Float16 half; std::memcpy(&half, &bits, 2); return half; }
    static uint32_t pack(float low, float high) { return narrow(low) | static_cast<uint32_t>(narrow(high)) << 16; }
    static float2 unpack(uint32_t packed) { return {widen(packed & 0xFFFF), widen(packed >> 16)}; }
    static void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { multiply_matrices<Fp16>(sum, a, b0, b1); }
};

#define HAS_BF16 1
struct Bf16 {
    static uint32_t narrow(float value) {  // round to nearest, ties to even
        const uint32_t bits = bits_of(value);
        return std::isnan(value) ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    }
    static uint32_t pack(float low, float high) { return narrow(low) | narrow(high) << 16; }
    static float2 unpack(uint32_t packed) { return {float_of(packed << 16), float_of(packed & 0xFFFF0000u)}; }
    static void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { multiply_matrices<Bf16>(sum, a, b0, b1); }
};

struct Loaded { uint32_t* to; const void* row; };

template <bool TRANSPOSED>
void load_four(uint32_t (&to)[4], const void* row) {
    Loaded mine{to, row};
    host::check_shared(row, 16);
    host::warp_instruction(TRANSPOSED ? "ldmatrix.trans" : "ldmatrix", &mine, [](host::Thread* warp) {
        for (int lane = 0; lane < 32; ++lane)
            for (int matrix = 0; matrix < 4; ++matrix) {
                uint16_t values[2];
                for (int i = 0; i < 2; ++i) {
                    const int row = TRANSPOSED ? lane % 4 * 2 + i : lane / 4, column = TRANSPOSED ? lane / 4 : lane % 4 * 2 + i;
                    const void* from = host::argument<Loaded>(warp, matrix * 8 + row).row;
                    values[i] = static_cast<const uint16_t*>(from)[column];
                }
                host::argument<Loaded>(warp, lane).to[matrix] = values[0] | static_cast<uint32_t>(values[1]) << 16;
            }
    });
}

inline void load_matrices(uint32_t (&to)[4], const void* row) { load_four<false>(to, row); }
inline void load_matrices_transposed(uint32_t (&to)[4], const void* row) { load_four<true>(to, row); }

inline void copy_async(void* to, const void* from, bool valid) {
    host::check_shared(to, 16);
    if (valid && reinterpret_cast<uintptr_t>(from) % 16) host::fail("an asynchronous copy from an address that is not aligned");
    std::memset(to, 0xFF, 16);
    host::block->running->copies.push_back({to, from, valid});
}

inline void wait_for_copies() {
    for (const host::Copy& copy : host::block->running->copies) {
        if (copy.valid) std::memcpy(copy.to, copy.from, 16);
        else std::memset(copy.to, 0, 16);
    }
    host::block->running->copies.clear();
}

inline float exp2_approx(float x) { return std::exp2(x); }

struct Exchanged { float value, got; int bits; };

inline float shuffle_xor(float value, int bits) {
    Exchanged mine{value, 0, bits};
    host::warp_instruction("shfl", &mine, [](host::Thread* warp) {
        for (int lane = 0; lane < 32; ++lane) {
            auto& to = host::argument<Exchanged>(warp, lane);
            to.got = host::argument<Exchanged>(warp, lane ^ to.bits).value;
        }
    });
    return mine.got;
}

struct Voted { bool condition; uint32_t all; };

inline uint32_t warp_ballot(bool condition) {
    Voted mine{condition, 0};
    host::warp_instruction("vote", &mine, [](host::Thread* warp) {
        uint32_t all = 0;
        for (int lane = 0; lane < 32; ++lane) all |= static_cast<uint32_t>(host::argument<Voted>(warp, lane).condition) << lane;
        for (int lane = 0; lane < 32; ++lane) host::argument<Voted>(warp, lane).all = all;
    });
    return mine.all;
}

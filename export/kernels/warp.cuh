// Warp-level primitives: matrix products, matrix loads from shared memory, asynchronous copies, shuffles. On the GPU each is
// one PTX instruction (PTX ISA 9.0, "Warp-level matrix instructions" and "cp.async"). The tests compile the same kernels for
// the CPU, with functions of the same names from tests/export/kernels/on_host.hpp.
#pragma once

#ifdef VLJ_ON_HOST
#include "on_host.hpp"
#else

#include <cstdint>

#define SHARED(Type, name) __shared__ __align__(128) Type name

// fp16. A register holds two values, the first in its low 16 bits.
struct Fp16 {
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        uint32_t packed;
        asm("{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}"
            : "=r"(packed) : "f"(low), "f"(high));
        return packed;
    }

    static __device__ __forceinline__ float2 unpack(uint32_t packed) {
        float2 values;
        asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
            : "=f"(values.x), "=f"(values.y) : "r"(packed));
        return values;
    }

    // sum (16 x 8) += a (16 x 16, row-major) times b (16 x 8, column-major)
    static __device__ __forceinline__ void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else  // Turing has m16n8k8 only: the same registers in two halves of k
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
    }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define HAS_BF16 1  // not on Turing
struct Bf16 {
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        uint32_t packed;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
        return packed;
    }

    static __device__ __forceinline__ float2 unpack(uint32_t packed) {
        return {__uint_as_float(packed << 16), __uint_as_float(packed & 0xFFFF0000u)};
    }

    static __device__ __forceinline__ void multiply(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};
#endif

__device__ __forceinline__ uint32_t shared_address(const void* at) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

// Load four 8 x 8 matrices of 16-bit values. Lane i passes the address of row i % 8 of matrix i / 8, and receives of each
// matrix two adjacent values of row lane / 4.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

// The same, with each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

// Copy 16 bytes from global to shared memory, or write zeros where `valid` is false. Turing has no asynchronous copies: there
// the copy is done on return.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
        :: "r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
#else
    *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
#endif
}

// Wait for this thread's copies. Other threads see them after the next barrier.
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// 2^x, approximately (PTX ISA, ex2.approx).
__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The value of the lane whose index is this lane's index XOR `bits`.
__device__ __forceinline__ float shuffle_xor(float value, int bits) { return __shfl_xor_sync(~0u, value, bits); }

// One bit per lane: its condition.
__device__ __forceinline__ uint32_t warp_ballot(bool condition) { return __ballot_sync(~0u, condition); }

#endif

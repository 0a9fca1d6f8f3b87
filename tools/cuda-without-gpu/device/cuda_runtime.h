/* CUDA C++ for one thread of a kernel on a CPU: as much of it as CubeCL writes. What is missing does not compile. See nvrtc.cpp. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "threads.h"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

#define VECTORS(type, name)                                         \
    struct __align__(2 * sizeof(type)) name##2 { type x, y; };      \
    struct name##3 { type x, y, z; };                               \
    struct __align__(4 * sizeof(type)) name##4 { type x, y, z, w; };
VECTORS(float, float)
VECTORS(int, int)
VECTORS(unsigned, uint)
#undef VECTORS
typedef uint3 dim3;
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

constexpr int warpSize = WARP;
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static launch now;

/* Threads that wait. Others run meanwhile, and leave their index behind. */
inline unsigned own_lane() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % WARP; }

inline void __syncthreads() {
    uint3 own = threadIdx;
    now.threads->meet_block();
    threadIdx = own;
}

inline unsigned meet_warp(int line) {
    uint3 own = threadIdx;
    unsigned live = now.threads->meet_warp(line);
    threadIdx = own;
    return live;
}

inline void only_full(unsigned mask) {
    if (mask == ~0u) return;
    fprintf(stderr, "kernel: a part of a warp, %x, does what only whole warps can\n", mask);
    abort();
}

template <class T> T from_lane(T value, unsigned lane, int line) {
    T *slots = (T *)now.threads->slots();
    slots[own_lane()] = value;
    meet_warp(line);
    return slots[lane];
}

#define LINE int line = __builtin_LINE()
inline void __syncwarp(unsigned mask = ~0u, LINE) { only_full(mask), meet_warp(line); }
inline unsigned __activemask(LINE) { return meet_warp(line); }
template <class T> T __shfl_sync(unsigned mask, T value, unsigned lane, LINE) {
    only_full(mask);
    return from_lane(value, lane % WARP, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned bits, LINE) {
    only_full(mask);
    return from_lane(value, (own_lane() ^ bits) % WARP, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, LINE) {
    only_full(mask);
    unsigned own = own_lane();
    return from_lane(value, by > own ? own : own - by, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, LINE) {
    only_full(mask);
    unsigned own = own_lane();
    return from_lane(value, own + by >= WARP ? own : own + by, line);
}
inline unsigned __ballot_sync(unsigned mask, bool value, LINE) {
    only_full(mask);
    bool *slots = (bool *)now.threads->slots();
    slots[own_lane()] = value;
    unsigned live = meet_warp(line), ballot = 0;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (live >> lane & 1 && slots[lane]) ballot |= 1u << lane;
    return ballot;
}
inline bool __any_sync(unsigned mask, bool value, LINE) { return __ballot_sync(mask, value, line); }
inline bool __all_sync(unsigned mask, bool value, LINE) { return !__ballot_sync(mask, !value, line); }
#undef LINE
inline void __threadfence() {}

/* No thread is interrupted. */
#define ATOMIC(name, result)                                                      \
    template <class T> T name(T *at, decltype(T(*at)) value) {                  \
        T old = *at;                                                              \
        *at = result;                                                             \
        return old;                                                               \
    }
ATOMIC(atomicAdd, old + value)
ATOMIC(atomicSub, old - value)
ATOMIC(atomicMin, old < value ? old : value)
ATOMIC(atomicMax, old > value ? old : value)
ATOMIC(atomicAnd, old &value)
ATOMIC(atomicOr, old | value)
ATOMIC(atomicXor, old ^ value)
ATOMIC(atomicExch, value)
#undef ATOMIC
template <class T> T atomicCAS(T *at, decltype(T(*at)) expected, decltype(T(*at)) value) {
    T old = *at;
    if (old == expected) *at = value;
    return old;
}

/* Numbers. A maximum with NaN is the other number, as in IEEE 754-2008. */
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
#define WHOLE(type)                                            \
    inline type max(type a, type b) { return a > b ? a : b; } \
    inline type min(type a, type b) { return a < b ? a : b; }
WHOLE(int)
WHOLE(unsigned)
WHOLE(long)
WHOLE(unsigned long)
WHOLE(long long)
WHOLE(unsigned long long)
#undef WHOLE
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }

inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; bit++) reversed |= (x >> bit & 1) << (31 - bit);
    return reversed;
}
inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float rsqrt(float x) { return (float)rsqrt((double)x); }
inline float rhypotf(float x, float y) { return 1 / hypotf(x, y); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrt(x); }
/* The fast ones, by the steps that a GPU takes: their error is theirs too, but for the last bits of 2^x, log2 and tanh. */
inline float __expf(float x) { return exp2f(x * 1.44269504f); }
inline float __logf(float x) { return log2f(x) * 0.693147181f; }
inline float __powf(float x, float y) { return exp2f(y * log2f(x)); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float __fdividef(float x, float y) {
    if (fabsf(y) <= 0x1p126f) return x / y;
    return isinf(x) || isnan(x) || isnan(y) ? NAN : copysignf(0, x) * copysignf(1, y);
}

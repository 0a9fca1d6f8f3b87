/* Numbers of 16 bits: each operation is done in more bits, and rounded to the nearest, ties to even, at once, as the hardware does. */
#pragma once
#include "cuda_runtime.h"

/* The same to fp32, but so that rounding it once more does no harm (an odd last bit stands for all that was cut off). */
inline float to_odd(double exact) {
    float rounded = (float)exact;
    if ((double)rounded == exact || isnan(rounded)) return rounded;
    uint32_t bits;
    memcpy(&bits, &rounded, 4);
    if (fabs((double)rounded) > fabs(exact)) bits--;
    bits |= 1;
    memcpy(&rounded, &bits, 4);
    return rounded;
}

struct bf16_bits {
    static float widen(uint16_t bits) {
        uint32_t wide = (uint32_t)bits << 16;
        float x;
        memcpy(&x, &wide, 4);
        return x;
    }
    static uint16_t narrow(float x) {
        if (isnan(x)) return 0x7FFF;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
};

struct half_bits {
    static float widen(uint16_t bits) {
        _Float16 x;
        memcpy(&x, &bits, 2);
        return (float)x;
    }
    static uint16_t narrow(float x) {
        if (isnan(x)) return 0x7FFF;
        _Float16 half = (_Float16)x;
        uint16_t bits;
        memcpy(&bits, &half, 2);
        return bits;
    }
};

template <class Format> struct small_float {
    uint16_t bits;
    small_float() = default;
    small_float(float x) : bits(Format::narrow(x)) {}
    small_float(double x) : bits(Format::narrow(to_odd(x))) {}
    template <class T, class = decltype(T() % 1)> small_float(T whole) : small_float((double)whole) {}
    template <class Other> explicit small_float(small_float<Other> x) : small_float((float)x) {}
    operator float() const { return Format::widen(bits); }
    small_float operator-() const {
        small_float negative = *this;
        negative.bits ^= 0x8000;
        return negative;
    }
    small_float &operator+=(small_float x) { return *this = *this + x; }
    small_float &operator-=(small_float x) { return *this = *this - x; }
    small_float &operator*=(small_float x) { return *this = *this * x; }
    small_float &operator/=(small_float x) { return *this = *this / x; }
};

template <class Format> struct __align__(4) small_float2 {
    small_float<Format> x, y;
    small_float2() = default;
    small_float2(small_float<Format> x, small_float<Format> y) : x(x), y(y) {}
    explicit small_float2(small_float<Format> both) : x(both), y(both) {}
    small_float2 operator-() const { return {-x, -y}; }
    small_float2 &operator+=(small_float2 x) { return *this = *this + x; }
    small_float2 &operator*=(small_float2 x) { return *this = *this * x; }
};

#define FORMAT template <class F> inline
#define OPERATOR(op)                                                                                             \
    FORMAT small_float<F> operator op(small_float<F> a, small_float<F> b) { return (float)a op(float) b; }       \
    FORMAT small_float2<F> operator op(small_float2<F> a, small_float2<F> b) { return {a.x op b.x, a.y op b.y}; }
OPERATOR(+)
OPERATOR(-)
OPERATOR(*)
OPERATOR(/)
#undef OPERATOR
#define FUNCTION(name, function)                                                          \
    FORMAT small_float<F> h##name(small_float<F> x) { return function((float)x); }        \
    FORMAT small_float2<F> h2##name(small_float2<F> x) { return {h##name(x.x), h##name(x.y)}; }
FUNCTION(log, logf)
FUNCTION(exp, expf)
FUNCTION(sin, sinf)
FUNCTION(cos, cosf)
FUNCTION(sqrt, sqrtf)
FUNCTION(rsqrt, rsqrt)
FUNCTION(ceil, ceilf)
FUNCTION(floor, floorf)
FUNCTION(trunc, truncf)
FUNCTION(rint, rintf)
#undef FUNCTION
FORMAT small_float<F> fma(small_float<F> a, small_float<F> b, small_float<F> c) {
    return (double)(float)a * (double)(float)b + (double)(float)c;
}
FORMAT small_float2<F> fma(small_float2<F> a, small_float2<F> b, small_float2<F> c) {
    return {fma(a.x, b.x, c.x), fma(a.y, b.y, c.y)};
}
FORMAT small_float<F> __hmax(small_float<F> a, small_float<F> b) { return fmaxf(a, b); }
FORMAT small_float<F> __hmin(small_float<F> a, small_float<F> b) { return fminf(a, b); }
FORMAT small_float2<F> __hmax2(small_float2<F> a, small_float2<F> b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
FORMAT small_float2<F> __hmin2(small_float2<F> a, small_float2<F> b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }
FORMAT small_float<F> abs(small_float<F> x) { return fabsf(x); }
FORMAT bool __hisnan(small_float<F> x) { return isnan((float)x); }
FORMAT bool __hisinf(small_float<F> x) { return isinf((float)x); }
#undef FORMAT

typedef small_float<half_bits> __half;
typedef small_float2<half_bits> __half2;
typedef small_float<bf16_bits> __nv_bfloat16;
typedef small_float2<bf16_bits> __nv_bfloat162;

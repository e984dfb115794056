// Numbers: of sequences, and in pairs on the way.

#pragma once
#include "scales.cuh"

#if NUMBER == 2
typedef float number;
#else
typedef unsigned short number;
#endif

constexpr word SIGNS = 0x80008000;

INLINE float real(number value) {
#if NUMBER == 2
    return value;
#elif NUMBER == 1
    return __uint_as_float((word)value << 16);
#else
    return widen(value);
#endif
}

INLINE word pack_numbers(float low, float high) {  // two of 16 bits
#if NUMBER == 1
    return pack_bfloat16(low, high);
#else
    return pack(low, high);
#endif
}

// Two neighbours in a row, in float32 or float16: between steps, numbers of bfloat16's exactness need no more.

struct Wide {
    float one, two;
};

struct Narrow {
    word both;
};

#if NUMBER == 1
typedef Narrow Two;
#else
typedef Wide Two;
#endif

INLINE Wide operator+(Wide a, Wide b) { return {a.one + b.one, a.two + b.two}; }
INLINE Wide operator-(Wide a, Wide b) { return {a.one - b.one, a.two - b.two}; }
INLINE Wide operator*(Wide a, Wide b) { return {a.one * b.one, a.two * b.two}; }
INLINE Wide operator-(Wide a) { return {-a.one, -a.two}; }
INLINE Wide times_and_add(Wide a, Wide b, Wide c) { return {a.one * b.one + c.one, a.two * b.two + c.two}; }
INLINE Wide both(float a) { return {a, a}; }
INLINE word packed(Wide a) { return pack(a.one, a.two); }

INLINE Narrow operator+(Narrow a, Narrow b) { return {add(a.both, b.both)}; }
INLINE Narrow operator-(Narrow a, Narrow b) { return {subtract(a.both, b.both)}; }
INLINE Narrow operator*(Narrow a, Narrow b) { return {times(a.both, b.both)}; }
INLINE Narrow operator-(Narrow a) { return {opposite(a.both)}; }
INLINE Narrow times_and_add(Narrow a, Narrow b, Narrow c) { return {times_and_add(a.both, b.both, c.both)}; }
INLINE word packed(Narrow a) { return a.both; }

template <class T>
INLINE T unpacked(word two);
template <>
INLINE Wide unpacked(word two) { return {low(two), high(two)}; }
template <>
INLINE Narrow unpacked(word two) { return {two}; }

INLINE Wide wide(Wide a) { return a; }
INLINE Wide wide(Narrow a) { return unpacked<Wide>(a.both); }

template <class T>
INLINE T rest(T a) { return a - unpacked<T>(packed(a)); }  // what float16 leaves

INLINE float largest_of(Wide a) { return fmaxf(fabsf(a.one), fabsf(a.two)); }

// Complex numbers

template <class T>
struct Complex {
    T re, im;
};

template <class T>
INLINE Complex<T> operator*(Complex<T> a, Complex<T> b) {
    return {times_and_add(a.im, -b.im, a.re * b.re), times_and_add(a.im, b.re, a.re * b.im)};
}

template <class T>
INLINE Complex<T> conjugate(Complex<T> a) { return {a.re, -a.im}; }

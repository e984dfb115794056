// Numbers over powers of two, as float16 can hold them.

#pragma once
#include "instructions.cuh"

INLINE float low(word packed) { return widen(packed & 0xffff); }
INLINE float high(word packed) { return widen(packed >> 16); }

// The greatest power of two that is not above a size (by its bits), where its inverse is a normal number too.
INLINE float power_of_two(word size) {
    return __uint_as_float(min(max(size & 0x7f800000u, 0x00800000u), 0x7e800000u));
}

INLINE float inverse(float power_of_two) { return __uint_as_float(0x7f000000u - __float_as_uint(power_of_two)); }

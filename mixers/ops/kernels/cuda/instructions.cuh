// The instructions of the tensor cores and of half precision, for which C++ has no words.

#ifndef INSTRUCTIONS
#define INSTRUCTIONS

typedef unsigned int word;
typedef unsigned short half;

#define INLINE __device__ __forceinline__
#define SHARED __shared__

INLINE word pack(float low, float high) {  // two float16
    word packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

INLINE word pack_bfloat16(float low, float high) {
    word packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

INLINE float widen(half value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
}

INLINE float square_root(float value) {
    float root;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(value));
    return root;
}

INLINE float reciprocal(float value) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
}

INLINE float relu(float number) {  // what is no number stays none
    float result;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(result) : "f"(number));
    return result;
}

INLINE float power(float exponent) {  // of 2
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(exponent));
    return power;
}

// Two float16 at once

INLINE word add(word a, word b) {
    word sum;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
}

INLINE word subtract(word a, word b) {
    word difference;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(difference) : "r"(a), "r"(b));
    return difference;
}

INLINE word times(word a, word b) {
    word product;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
    return product;
}

INLINE word times_and_add(word a, word b, word c) {  // a b + c
    word sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}

INLINE word opposite(word a) {  // which another instruction takes on its way, as it would not one of bits
    word negative;
    asm("neg.f16x2 %0, %1;" : "=r"(negative) : "r"(a));
    return negative;
}

// Sums (16, 8) += a (16, 16) b (16, 8), with sums in float32 or in pairs of float16: of a row, and of the 8th after it.

INLINE void multiply(float& sum_0, float& sum_1, float& sum_2, float& sum_3, uint4 a, word b0, word b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum_0), "+f"(sum_1), "+f"(sum_2), "+f"(sum_3)
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

INLINE void multiply(word& sum_0, word& sum_1, uint4 a, word b0, word b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"
        : "+r"(sum_0), "+r"(sum_1)
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// Sums (16, 8) += a (16, 8) b (8, 8), in float32 and of TF32: of float32 numbers the upper 19 bits.

INLINE void multiply_tf32(float (&sums)[4], uint4 a, word b0, word b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// Have 128 bytes in the second-level cache when they are read.
INLINE void prefetch(const void* pointer) { asm volatile("prefetch.global.L2 [%0];" : : "l"(pointer)); }

INLINE word shared_address(const void* pointer) { return (word)__cvta_generic_to_shared(pointer); }

// Four transposed matrices (8, 8) of 16 bits, whose rows begin at the addresses of lanes 0 - 7, 8 - 15, and so on.
INLINE void read_transposed(word* matrices, word address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(address) : "memory");
}

#endif

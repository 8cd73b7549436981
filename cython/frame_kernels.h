/* What frames.pyx calls: no Python, no allocation, no alignment asked for.
 *
 * A wheel runs on any machine of its platform, so each loop is compiled for the plain instruction set and, on x86-64
 * with GCC or Clang, for wider ones too; hali_loops_now is the widest that this CPU has. All give the same bits: no
 * loop depends on the order of additions, and -ffp-contract=off keeps a product and a sum apart.
 */
#ifndef HALI_FRAME_KERNELS_H
#define HALI_FRAME_KERNELS_H

#include "frame_bits.h"
#include "frame_parts.h"
#include "frame_outliers.h"

/* 65,520 * 127: from here on a block's scale rounds to an infinite half. */
#define HALI_BEYOND_Q8_0 0x4afdf020

typedef struct {
    const char *name;
    int (*all_finite_f32)(const void *src, size_t n);
    int (*all_finite_16)(const void *src, size_t n, int16_t infinity);
    int (*none_is_minus_128)(const void *src, size_t n);
    hali_finite_pass finite_f32;
    int (*f32_to_bf16)(void *dst, const void *src, size_t n);
    void (*bf16_to_f32)(void *dst, const void *src, size_t n);
    int (*f32_to_f16_rows)(void *scales, void *dst, const void *src, size_t rows, size_t cols);
    void (*f16_rows_to_f32)(void *dst, const void *scales, const void *src, size_t rows, size_t cols);
    int (*f32_to_q8_0)(void *dst, const void *src, size_t n);
    void (*q8_0_to_f32)(void *dst, const void *src, size_t n);
    int (*f32_to_int8_rows)(const hali_int8 *to, const void *src);
    void (*int8_rows_to_f32)(void *dst, const hali_int8 *of);
} hali_loops;

#define HALI_TABLE(label, suffix)                                                                                      \
    {                                                                                                                  \
        label, all_finite_f32_##suffix, all_finite_16_##suffix, none_is_minus_128_##suffix, finite_f32_##suffix,       \
            f32_to_bf16_##suffix, bf16_to_f32_##suffix, f32_to_f16_rows_##suffix, f16_rows_to_f32_##suffix,            \
            f32_to_q8_0_##suffix, q8_0_to_f32_##suffix, f32_to_int8_rows_##suffix, int8_rows_to_f32_##suffix           \
    }

#define HALI_NAME(name) name##_plain
#define HALI_LOOP(type, name) static type HALI_NAME(name)
#include "frame_loops.h"
#include "frame_quant.h"
#undef HALI_NAME
#undef HALI_LOOP

#if defined(__GNUC__) && defined(__x86_64__)
#define HALI_WIDER
#define HALI_F16C
#include <cpuid.h>
#include <immintrin.h>

#define HALI_NAME(name) name##_avx2
#define HALI_LOOP(type, name) static __attribute__((target("avx2,f16c"))) type HALI_NAME(name)
#include "frame_loops.h"
#include "frame_quant.h"
#undef HALI_NAME
#undef HALI_LOOP

#define HALI_NAME(name) name##_avx512
#define HALI_LOOP(type, name)                                                                                          \
    static __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c"))) type HALI_NAME(name)
#include "frame_loops.h"
#include "frame_quant.h"
#undef HALI_NAME
#undef HALI_LOOP
#endif

/* From plain to wide; hali_loops_count() of them run on this CPU. */
static const hali_loops hali_loops_all[] = {
    HALI_TABLE("plain", plain),
#ifdef HALI_WIDER
    HALI_TABLE("avx2", avx2),
    HALI_TABLE("avx512", avx512),
#endif
};

static inline int hali_loops_count(void) {
#ifdef HALI_WIDER
    unsigned eax, ebx, ecx, edx;
    __builtin_cpu_init();
    /* GCC before 11 cannot be asked for f16c; that the system saves its registers is part of the answer for avx2 */
    if (!__builtin_cpu_supports("avx2") || !__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_F16C))
        return 1;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? 3
               : 2;
#else
    return 1;
#endif
}

/* hali_finite_pass of the loops given: see frame_parts.h. */
static inline int hali_finite_f32(const hali_loops *loops, void *dst, const void *src, size_t n) {
    return hali_in_parts(loops->finite_f32, dst, src, n);
}

/* A row scale is positive, and the largest f16 (65,504) times it is still a finite float. */
static inline int hali_all_scales_usable(const void *src, size_t n) {
    int good = 1;
    for (size_t i = 0; i < n; i++) {
        float scale = hali_float(hali_load32(src, i));
        good &= scale > 0.0f && scale <= HALI_TWO_TO_112;
    }
    return good;
}

/* The scale of each block is a number. */
static inline int hali_q8_0_finite(const void *src, size_t n) {
    int32_t largest = 0;
    for (size_t b = 0; b < n / 32; b++) {
        int32_t size = hali_load16((const char *)src + 34 * b, 0) & 0x7fff;
        largest = size > largest ? size : largest;
    }
    return largest < 0x7c00;
}

static inline int hali_none_negative(const void *src, size_t n) {
    uint32_t gathered = 0;
    for (size_t i = 0; i < n; i++)
        gathered |= hali_load32(src, i);
    return !(gathered >> 31);
}

static inline int hali_all_boolean(const void *src, size_t n) {
    uint8_t gathered = 0;
    for (size_t i = 0; i < n; i++)
        gathered |= ((const uint8_t *)src)[i];
    return gathered <= 1;
}

static inline int hali_all_zero(const void *src, size_t n) {
    uint8_t gathered = 0;
    for (size_t i = 0; i < n; i++)
        gathered |= ((const uint8_t *)src)[i];
    return !gathered;
}

#endif

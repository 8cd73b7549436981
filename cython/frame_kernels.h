/* The loops of frames.pyx: no Python, no allocation, no alignment asked for.
 *
 * Written in C because they live from the compiler's vectoriser: plain counted loops, no early exit, values moved by
 * memcpy (which costs nothing and, unlike a pointer cast, is defined for any address and type). A check gathers one
 * bit over a block and looks at it afterwards.
 */
#ifndef HALI_FRAME_KERNELS_H
#define HALI_FRAME_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "HLF1 frames are little-endian in memory; this machine would need byte swaps in each loop"
#endif

#define HALI_EXPONENT_F32 0x7f800000u
/* Items checked between two looks at the result: 16 KiB of f32, so that the copy finds them in the L1 cache. */
#define HALI_BLOCK 4096u

static inline uint32_t hali_load32(const void *base, size_t i) {
    uint32_t bits;
    memcpy(&bits, (const char *)base + 4 * i, 4);
    return bits;
}

static inline uint16_t hali_load16(const void *base, size_t i) {
    uint16_t bits;
    memcpy(&bits, (const char *)base + 2 * i, 2);
    return bits;
}

static inline void hali_store16(void *base, size_t i, uint16_t bits) { memcpy((char *)base + 2 * i, &bits, 2); }
static inline void hali_store32(void *base, size_t i, uint32_t bits) { memcpy((char *)base + 4 * i, &bits, 4); }

static inline float hali_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t hali_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline int hali_all_finite_f32(const void *src, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= (hali_load32(src, i) & HALI_EXPONENT_F32) == HALI_EXPONENT_F32;
    return !bad;
}

static inline int hali_all_finite_bf16(const void *src, size_t n) {
    uint16_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= (hali_load16(src, i) & 0x7f80u) == 0x7f80u;
    return !bad;
}

static inline int hali_all_finite_f16(const void *src, size_t n) {
    uint16_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= (hali_load16(src, i) & 0x7c00u) == 0x7c00u;
    return !bad;
}

/* A row scale is positive, and the largest f16 (65,504) times it is still a finite float. */
static inline int hali_all_scales_usable(const void *src, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        float scale = hali_float(hali_load32(src, i));
        bad |= !(scale > 0.0f && scale <= 5.1922968585348276e33f); /* 2^112 */
    }
    return !bad;
}

static inline int hali_copy_finite_f32(void *dst, const void *src, size_t n) {
    for (size_t at = 0; at < n; at += HALI_BLOCK) {
        size_t count = n - at < HALI_BLOCK ? n - at : HALI_BLOCK;
        const char *from = (const char *)src + 4 * at;
        if (!hali_all_finite_f32(from, count))
            return 0;
        memcpy((char *)dst + 4 * at, from, 4 * count);
    }
    return 1;
}

/* Round to nearest, ties to even. A value that rounds up to infinity counts as bad, like NaN and infinity. */
static inline int hali_f32_to_bf16(void *dst, const void *src, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = hali_load32(src, i);
        uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
        bad |= ((bits & HALI_EXPONENT_F32) == HALI_EXPONENT_F32) | ((rounded & HALI_EXPONENT_F32) == HALI_EXPONENT_F32);
        hali_store16(dst, i, (uint16_t)(rounded >> 16));
    }
    return !bad;
}

static inline void hali_bf16_to_f32(void *dst, const void *src, size_t n) {
    for (size_t i = 0; i < n; i++)
        hali_store32(dst, i, (uint32_t)hali_load16(src, i) << 16);
}

/* For |value| <= 65,504. Below 2^-14 an addition of 0.5 makes the FPU round at the f16 subnormal's last place. */
static inline uint16_t hali_f16_from(float value) {
    uint32_t bits = hali_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t size = bits & 0x7fffffffu;
    uint32_t normal = (size + 0xc8000fffu + ((size >> 13) & 1u)) >> 13;
    uint32_t tiny = hali_bits(hali_float(size) + 0.5f) - 0x3f000000u;
    return (uint16_t)(sign | (size < 0x38800000u ? tiny : normal));
}

/* For finite halves. The exponent is moved by a multiplication, which is right for subnormals too. */
static inline float hali_f16_to(uint16_t half) {
    float size = hali_float((uint32_t)(half & 0x7fffu) << 13) * 5.1922968585348276e33f; /* 2^112 */
    return hali_float(hali_bits(size) | (uint32_t)(half & 0x8000u) << 16);
}

/* The power of two that brings the row's largest value into [2^14, 2^15): scaling is then exact, nothing overflows
 * f16, and only values 2^-28 of the largest and less fall into the subnormals. As an exponent, in [-126, 112]: one
 * more, and a half could decode to infinity (hali_all_scales_usable). */
static inline int hali_row_exponent(uint32_t largest) {
    int exponent = (int)(largest >> 23) - 127 - 14;
    if (largest == 0)
        return 0;
    return exponent < -126 ? -126 : exponent > 112 ? 112 : exponent;
}

/* 65,520 * 2^112: from here on a value rounds to an infinite half even under the largest scale. */
#define HALI_BEYOND_F16 0x7f7ff000u

static inline float hali_power_of_two(int exponent) { return hali_float((uint32_t)(exponent + 127) << 23); }

static inline int hali_f32_to_f16_rows(void *scales, void *dst, const void *src, size_t rows, size_t cols) {
    for (size_t row = 0; row < rows; row++) {
        const char *from = (const char *)src + 4 * row * cols;
        char *to = (char *)dst + 2 * row * cols;
        uint32_t largest = 0;
        for (size_t i = 0; i < cols; i++) {
            uint32_t size = hali_load32(from, i) & 0x7fffffffu;
            largest = size > largest ? size : largest;
        }
        if (largest >= HALI_BEYOND_F16) /* NaN and infinity too */
            return 0;
        int exponent = hali_row_exponent(largest);
        float inverse = hali_power_of_two(-exponent);
        hali_store32(scales, row, hali_bits(hali_power_of_two(exponent)));
        for (size_t i = 0; i < cols; i++)
            hali_store16(to, i, hali_f16_from(hali_float(hali_load32(from, i)) * inverse));
    }
    return 1;
}

static inline void hali_f16_rows_to_f32(void *dst, const void *scales, const void *src, size_t rows, size_t cols) {
    for (size_t row = 0; row < rows; row++) {
        float scale = hali_float(hali_load32(scales, row));
        const char *from = (const char *)src + 2 * row * cols;
        char *to = (char *)dst + 4 * row * cols;
        for (size_t i = 0; i < cols; i++)
            hali_store32(to, i, hali_bits(hali_f16_to(hali_load16(from, i)) * scale));
    }
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

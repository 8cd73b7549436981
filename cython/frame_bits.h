/* What the loops of frames.pyx have in common: unaligned loads and stores, and one number turned into another.
 *
 * Values are moved by memcpy, which costs nothing and, unlike a pointer cast, is defined for any address and type.
 */
#ifndef HALI_FRAME_BITS_H
#define HALI_FRAME_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "HLF1 frames are little-endian in memory; this machine would need byte swaps in each loop"
#endif

#define HALI_SIZE_F32 0x7fffffffu
#define HALI_INF_F32 0x7f800000u
#define HALI_TWO_TO_112 5.1922968585348276e33f

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

/* The bits without the sign: ordered like |value|, and at least HALI_INF_F32 for NaN and infinity. Signed, because
 * that is the maximum which more instruction sets have. */
static inline int32_t hali_size(const void *base, size_t i) { return (int32_t)(hali_load32(base, i) & HALI_SIZE_F32); }

/* Its uppermost bit says whether the size is `limit` or more: a test that SSE2 has, and that many can be ORed of. */
static inline uint32_t hali_reaches(uint32_t bits, uint32_t limit) {
    return (bits & HALI_SIZE_F32) + (0x80000000u - limit);
}

#define HALI_BEYOND_BF16 0x7f7f8000u /* from here on a value rounds to infinity */

/* Round to nearest, ties to even. */
static inline uint32_t hali_bf16_from(uint32_t bits) { return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16; }

/* For |value| < 65,520, which is what rounds to a finite half. Below 2^-14 an addition of 0.5 makes the FPU round at
 * the f16 subnormal's last place. */
static inline uint16_t hali_f16_from(float value) {
    uint32_t bits = hali_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t size = bits & HALI_SIZE_F32;
    uint32_t normal = (size + 0xc8000fffu + ((size >> 13) & 1u)) >> 13;
    uint32_t tiny = hali_bits(hali_float(size) + 0.5f) - 0x3f000000u;
    return (uint16_t)(sign | (size < 0x38800000u ? tiny : normal));
}

/* For finite halves. The exponent is moved by a multiplication, which is right for subnormals too. */
static inline float hali_f16_to(uint16_t half) {
    float size = hali_float((uint32_t)(half & 0x7fffu) << 13) * HALI_TWO_TO_112;
    return hali_float(hali_bits(size) | (uint32_t)(half & 0x8000u) << 16);
}

/* The power of two that brings the row's largest value into [2^14, 2^15): scaling is then exact, nothing overflows
 * f16, and only values 2^-28 of the largest and less fall into the subnormals. As an exponent, in [-126, 112]: one
 * more, and a half could decode to infinity (all_scales_usable). */
static inline int hali_row_exponent(uint32_t largest) {
    int exponent = (int)(largest >> 23) - 127 - 14;
    if (largest == 0)
        return 0;
    return exponent < -126 ? -126 : exponent > 112 ? 112 : exponent;
}

/* 65,520 * 2^112: from here on a value rounds to an infinite half even under the largest scale. */
#define HALI_BEYOND_F16 0x7f7ff000

static inline float hali_power_of_two(int exponent) { return hali_float((uint32_t)(exponent + 127) << 23); }

/* C's roundf for |value| < 2^22, as numbers a vector unit has: half a step away from zero, less the last bit so that
 * 0.49999997 stays below 1, then cut. Proved over every float up to 256 when it was written. */
static inline int32_t hali_round(float value) {
    float half = hali_float((hali_bits(value) & 0x80000000u) | 0x3effffffu);
    return (int32_t)(value + half);
}

/* 1 / scale, or 0 where that is no number: for 0, and for a scale of 2^-128 or less. */
static inline float hali_inverse(float scale) { return scale > 2.938735877055719e-39f ? 1.0f / scale : 0.0f; }

#endif

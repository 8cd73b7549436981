/* The loops over a payload, compiled once for each instruction set that frame_kernels.h knows (so: no include guard).
 *
 * They live from the compiler's vectoriser: plain counted loops, no early exit. A check gathers one number over the
 * whole pass and looks at it afterwards. HALI_LOOP(name) heads a function; HALI_F16C says that the CPU converts halves.
 */

HALI_LOOP(int, all_finite_f32)(const void *src, size_t n) {
    uint32_t gathered = 0;
    for (size_t i = 0; i < n; i++)
        gathered |= hali_reaches(hali_load32(src, i), HALI_INF_F32);
    return !(gathered >> 31);
}

HALI_LOOP(int, copy_finite_f32)(void *dst, const void *src, size_t n) {
    uint32_t gathered = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = hali_load32(src, i);
        gathered |= hali_reaches(bits, HALI_INF_F32);
        hali_store32(dst, i, bits);
    }
    return !(gathered >> 31);
}

/* A hali_finite_pass. */
HALI_LOOP(int, finite_f32)(void *dst, const void *src, size_t n) {
    return dst ? HALI_NAME(copy_finite_f32)(dst, src, n) : HALI_NAME(all_finite_f32)(src, n);
}

/* Halves of either kind: `infinity` is the bit pattern of theirs. */
HALI_LOOP(int, all_finite_16)(const void *src, size_t n, int16_t infinity) {
    int16_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        int16_t size = (int16_t)(hali_load16(src, i) & 0x7fffu);
        largest = size > largest ? size : largest;
    }
    return largest < infinity;
}

/* A value that rounds up to infinity counts as bad, like NaN and infinity. */
HALI_LOOP(int, f32_to_bf16)(void *dst, const void *src, size_t n) {
    uint32_t gathered = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = hali_load32(src, i);
        gathered |= hali_reaches(bits, HALI_BEYOND_BF16);
        hali_store16(dst, i, (uint16_t)hali_bf16_from(bits));
    }
    return !(gathered >> 31);
}

HALI_LOOP(void, bf16_to_f32)(void *dst, const void *src, size_t n) {
    for (size_t i = 0; i < n; i++)
        hali_store32(dst, i, (uint32_t)hali_load16(src, i) << 16);
}

HALI_LOOP(void, f32_to_f16)(void *dst, const void *src, size_t n, float factor) {
    size_t i = 0;
#ifdef HALI_F16C
    for (; i + 8 <= n; i += 8) {
        __m256 values = _mm256_mul_ps(_mm256_loadu_ps((const float *)((const char *)src + 4 * i)), _mm256_set1_ps(factor));
        _mm_storeu_si128((__m128i *)((char *)dst + 2 * i), _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    for (; i < n; i++)
        hali_store16(dst, i, hali_f16_from(hali_float(hali_load32(src, i)) * factor));
}

HALI_LOOP(void, f16_to_f32)(void *dst, const void *src, size_t n, float factor) {
    size_t i = 0;
#ifdef HALI_F16C
    for (; i + 8 <= n; i += 8) {
        __m256 values = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const char *)src + 2 * i)));
        _mm256_storeu_ps((float *)((char *)dst + 4 * i), _mm256_mul_ps(values, _mm256_set1_ps(factor)));
    }
#endif
    for (; i < n; i++)
        hali_store32(dst, i, hali_bits(hali_f16_to(hali_load16(src, i)) * factor));
}

HALI_LOOP(int, f32_to_f16_rows)(void *scales, void *dst, const void *src, size_t rows, size_t cols) {
    for (size_t row = 0; row < rows; row++) {
        const char *from = (const char *)src + 4 * row * cols;
        int32_t largest = 0;
        for (size_t i = 0; i < cols; i++) {
            int32_t size = hali_size(from, i);
            largest = size > largest ? size : largest;
        }
        if (largest >= HALI_BEYOND_F16) /* NaN and infinity too */
            return 0;
        int exponent = hali_row_exponent((uint32_t)largest);
        hali_store32(scales, row, hali_bits(hali_power_of_two(exponent)));
        HALI_NAME(f32_to_f16)((char *)dst + 2 * row * cols, from, cols, hali_power_of_two(-exponent));
    }
    return 1;
}

HALI_LOOP(void, f16_rows_to_f32)(void *dst, const void *scales, const void *src, size_t rows, size_t cols) {
    for (size_t row = 0; row < rows; row++)
        HALI_NAME(f16_to_f32)((char *)dst + 4 * row * cols, (const char *)src + 2 * row * cols, cols,
                              hali_float(hali_load32(scales, row)));
}

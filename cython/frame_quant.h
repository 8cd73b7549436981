/* The 8-bit types, compiled like frame_loops.h once for each instruction set. */

#define HALI_Q8_GROUP 64u /* blocks between two passes: 8 KiB of f32, so that the second finds them in the L1 cache */

/* The largest size in each block of `width` items, a power of two from 8 up; the last block may be shorter. */
HALI_LOOP(void, block_sizes)(int32_t *sizes, const void *src, size_t n, size_t width) {
    for (size_t at = 0; at < n; at += width, sizes++) {
        size_t count = n - at < width ? n - at : width;
        const char *from = (const char *)src + 4 * at;
        int32_t largest = 0;
        for (size_t i = 0; i < count; i++) {
            int32_t size = hali_size(from, i);
            largest = size > largest ? size : largest;
        }
        *sizes = largest;
    }
}

/* As ggml's quantize_row_q8_0_ref, bit for bit; n is a multiple of 32. */
HALI_LOOP(int, f32_to_q8_0)(void *dst, const void *src, size_t n) {
    int32_t sizes[HALI_Q8_GROUP], worst = 0;
    float inverse[HALI_Q8_GROUP], scale[HALI_Q8_GROUP];
    for (size_t left = n / 32; left > 0;) {
        size_t count = left < HALI_Q8_GROUP ? left : HALI_Q8_GROUP;
        for (size_t b = 0; b < count; b++) {
            int32_t largest = 0;
            for (size_t i = 0; i < 32; i++) {
                int32_t size = hali_size(src, 32 * b + i);
                largest = size > largest ? size : largest;
            }
            sizes[b] = largest;
        }
        for (size_t b = 0; b < count; b++)
            worst = sizes[b] > worst ? sizes[b] : worst;
        if (worst >= HALI_BEYOND_Q8_0)
            return 0;
        for (size_t b = 0; b < count; b++) {
            scale[b] = hali_float((uint32_t)sizes[b]) / 127.0f;
            inverse[b] = hali_inverse(scale[b]);
        }
        for (size_t b = 0; b < count; b++) {
            char *block = (char *)dst + 34 * b;
            hali_store16(block, 0, hali_f16_from(scale[b]));
            for (size_t i = 0; i < 32; i++)
                block[2 + i] = (char)hali_round(hali_float(hali_load32(src, 32 * b + i)) * inverse[b]);
        }
        src = (const char *)src + 128 * count;
        dst = (char *)dst + 34 * count;
        left -= count;
    }
    return 1;
}

HALI_LOOP(void, int8_to_f32)(void *dst, const void *src, size_t n, float scale) {
    for (size_t i = 0; i < n; i++)
        hali_store32(dst, i, hali_bits((float)((const int8_t *)src)[i] * scale));
}

HALI_LOOP(void, q8_0_to_f32)(void *dst, const void *src, size_t n) {
    for (size_t b = 0; b < n / 32; b++) {
        const char *block = (const char *)src + 34 * b;
        HALI_NAME(int8_to_f32)((char *)dst + 128 * b, block + 2, 32, hali_f16_to(hali_load16(block, 0)));
    }
}

/* What is beyond 127 steps is an outlier, and replaced afterwards; cut, because C does not say what a float that
 * no integer can hold becomes. */
HALI_LOOP(void, f32_to_int8)(void *dst, const void *src, size_t n, float inverse) {
    for (size_t i = 0; i < n; i++) {
        float value = hali_float(hali_load32(src, i)) * inverse;
        value = value > 127.0f ? 127.0f : value;
        value = value < -127.0f ? -127.0f : value;
        ((int8_t *)dst)[i] = (int8_t)hali_round(value);
    }
}

HALI_LOOP(int, f32_to_int8_rows)(const hali_int8 *to, const void *src) {
    int32_t sizes[HALI_MAX_COLS / HALI_INT8_BLOCK];
    hali_top top;
    for (size_t row = 0; row < to->rows; row++) {
        const char *from = (const char *)src + 4 * row * to->cols;
        char *q = to->q + row * to->cols;
        HALI_NAME(block_sizes)(sizes, from, to->cols, HALI_INT8_BLOCK);
        hali_top_of_row(&top, sizes, from, to->cols);
        if (top.count && top.size[0] >= (int32_t)HALI_INF_F32)
            return 0;
        float scale = hali_float((uint32_t)(top.count > HALI_OUTLIERS ? top.size[HALI_OUTLIERS] : 0)) / 127.0f;
        float inverse = hali_inverse(scale);
        if (hali_bits(scale) > HALI_LARGEST_SCALE)
            return 0;
        hali_store32(to->scales, row, inverse == 0.0f ? 0 : hali_bits(scale));
        HALI_NAME(f32_to_int8)(q, from, to->cols, inverse);
        hali_put_outliers(to, &top, row, from);
    }
    return 1;
}

HALI_LOOP(void, int8_rows_to_f32)(void *dst, const hali_int8 *of) {
    for (size_t row = 0; row < of->rows; row++) {
        char *to = (char *)dst + 4 * row * of->cols;
        const char *q = of->q + row * of->cols;
        float scale = hali_float(hali_load32(of->scales, row));
        HALI_NAME(int8_to_f32)(to, q, of->cols, scale);
        hali_take_outliers(to, of, row);
    }
}

/* Whether no byte is -128, whose negative would not fit. */
HALI_LOOP(int, none_is_minus_128)(const void *src, size_t n) {
    int8_t least = 0;
    for (size_t i = 0; i < n; i++) {
        int8_t item = ((const int8_t *)src)[i];
        least = item < least ? item : least;
    }
    return least != -128;
}

/* The outliers of a row of INT8_OUTLIERS: which they are, where they lie, and whether received ones may be believed. */
#ifndef HALI_FRAME_OUTLIERS_H
#define HALI_FRAME_OUTLIERS_H

#include "frame_bits.h"

#define HALI_OUTLIERS 8u
#define HALI_MAX_COLS 65536u
#define HALI_INT8_BLOCK 64u /* items that are skipped or looked at together */
#define HALI_LARGEST_SCALE 0x7c010203u /* 127 times the next float is infinite */
#define HALI_LEAST_SCALE 0x00200000u /* 2^-128: its inverse is infinite */

/* The four parts of a payload; outliers is min(8, cols). */
typedef struct {
    char *scales, *values, *columns, *q;
    size_t rows, cols, outliers;
} hali_int8;

static inline hali_int8 hali_int8_parts(const void *payload, size_t rows, size_t cols) {
    hali_int8 parts = {(char *)payload, NULL, NULL, NULL, rows, cols, cols < HALI_OUTLIERS ? cols : HALI_OUTLIERS};
    parts.values = parts.scales + 4 * rows;
    parts.columns = parts.values + 4 * rows * parts.outliers;
    parts.q = parts.columns + 2 * rows * parts.outliers;
    return parts;
}

/* The largest sizes so far, in descending order; among equals the earlier column first. One more than outliers: it is
 * the largest of the rest. */
typedef struct {
    size_t count, wanted;
    int32_t size[HALI_OUTLIERS + 1];
    uint32_t column[HALI_OUTLIERS + 1];
} hali_top;

static inline int hali_top_takes(const hali_top *top, int32_t size) {
    return top->count < top->wanted || size > top->size[top->count - 1];
}

static inline void hali_top_add(hali_top *top, int32_t size, uint32_t column) {
    size_t at = top->count < top->wanted ? top->count++ : top->count - 1;
    for (; at > 0 && top->size[at - 1] < size; at--) {
        top->size[at] = top->size[at - 1];
        top->column[at] = top->column[at - 1];
    }
    top->size[at] = size;
    top->column[at] = column;
}

/* `sizes` has the largest of each block. The 9th largest of them is a bound from below for the 9th largest of the row,
 * so that about nine blocks are looked at, however long the row is. */
static inline void hali_top_of_row(hali_top *top, const int32_t *sizes, const void *row, size_t cols) {
    size_t blocks = (cols + HALI_INT8_BLOCK - 1) / HALI_INT8_BLOCK;
    int32_t bound = 0;
    top->wanted = cols < HALI_OUTLIERS + 1 ? cols : HALI_OUTLIERS + 1;
    top->count = 0;
    for (size_t block = 0; block < blocks; block++)
        if (hali_top_takes(top, sizes[block]))
            hali_top_add(top, sizes[block], 0);
    if (top->count == top->wanted && top->count > 0)
        bound = top->size[top->count - 1];
    top->count = 0;
    for (size_t block = 0; block < blocks; block++) {
        size_t end = (block + 1) * HALI_INT8_BLOCK < cols ? (block + 1) * HALI_INT8_BLOCK : cols;
        if (sizes[block] < bound || !hali_top_takes(top, sizes[block]))
            continue;
        for (size_t i = block * HALI_INT8_BLOCK; i < end; i++) {
            int32_t size = hali_size(row, i);
            if (size >= bound && hali_top_takes(top, size))
                hali_top_add(top, size, (uint32_t)i);
        }
    }
}

/* Write the outliers of a row in the order of their columns, and zeros into q in their place. */
static inline void hali_put_outliers(const hali_int8 *to, hali_top *top, size_t row, const void *from) {
    for (size_t i = 1; i < to->outliers; i++) { /* sorted by insertion: they are at most eight */
        uint32_t column = top->column[i];
        size_t at = i;
        for (; at > 0 && top->column[at - 1] > column; at--)
            top->column[at] = top->column[at - 1];
        top->column[at] = column;
    }
    for (size_t i = 0; i < to->outliers; i++) {
        uint32_t column = top->column[i];
        hali_store32(to->values, row * to->outliers + i, hali_load32(from, column));
        hali_store16(to->columns, row * to->outliers + i, (uint16_t)column);
        to->q[row * to->cols + column] = 0;
    }
}

/* The column is looked at again: the buffer may be the caller's, and other bytes by now than those that were checked. */
static inline void hali_take_outliers(void *to, const hali_int8 *of, size_t row) {
    for (size_t i = 0; i < of->outliers; i++) {
        uint16_t column = hali_load16(of->columns, row * of->outliers + i);
        if (column < of->cols)
            hali_store32(to, column, hali_load32(of->values, row * of->outliers + i));
    }
}

/* Scales that encode can write: 0, or what has an inverse and gives finite products. */
static inline int hali_int8_scales_usable(const hali_int8 *of) {
    int good = 1;
    for (size_t row = 0; row < of->rows; row++) {
        uint32_t bits = hali_load32(of->scales, row);
        good &= bits == 0 || (bits > HALI_LEAST_SCALE && bits <= HALI_LARGEST_SCALE);
    }
    return good;
}

/* Columns ascend and lie within the row, and q is 0 there. */
static inline int hali_outliers_in_place(const hali_int8 *of) {
    for (size_t row = 0; row < of->rows; row++) {
        uint32_t next = 0;
        for (size_t i = 0; i < of->outliers; i++) {
            uint32_t column = hali_load16(of->columns, row * of->outliers + i);
            if (column < next || column >= of->cols || of->q[row * of->cols + column] != 0)
                return 0;
            next = column + 1;
        }
    }
    return 1;
}

#endif

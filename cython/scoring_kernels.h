/* The loops of scoring.pyx: no Python, no allocation, one pass over each column.
 *
 * Rows are taken in blocks that stay in the L1 cache. First the marks of a block become numbers through a small table,
 * which no vector unit does well; then plain counted loops over float64, where each choice is a conditional expression
 * over values already computed, so that a compiler does several rows at once. Comparisons are written so that NaN falls
 * on the careful side; they need no test of their own.
 */
#ifndef HALI_SCORING_KERNELS_H
#define HALI_SCORING_KERNELS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "widest.h"

#define HALI_ROWS 512 /* of a block: 4 KiB of float64 */

typedef struct {
    const double *popularity, *holders, *average, *need, *local, *jitter;
    const uint8_t *marks;
    const double *factors; /* 256: what each combination of marks multiplies by; negative: nothing counts, not even jitter */
    double minimum, pool;
} hali_acquisition;

typedef struct {
    const double *holders, *target, *near, *demand, *acquired, *requested, *load;
    const uint16_t *marks;
    const double *terms; /* 128: what each combination of the marks that are no blocks adds; the upper half, for any block: -inf */
    double margin;       /* replicas above the target that are kept too; negative under pressure */
    double urgency;      /* the term that is the same for all rows */
} hali_prune;

/* Scores of n <= HALI_ROWS rows from row `at` on; how many of them are not finite. */
HALI_WIDEST static int64_t hali_acquire_block(
    const hali_acquisition *c, const double *HALI_RESTRICT factor, size_t at, size_t n, double *HALI_RESTRICT out) {
    const double *popularity = c->popularity + at, *holders = c->holders + at, *average = c->average + at;
    const double *need = c->need + at, *local = c->local + at, *jitter = c->jitter + at;
    const double minimum = c->minimum, pool = c->pool;
    int64_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        double numerator = holders[i] < minimum ? 10.0 : average[i] + 1.0;
        double rarity = numerator / (holders[i] + 1.0);
        rarity = holders[i] <= 0.0 ? 20.0 : rarity;
        double fitness = pool / need[i];
        fitness = fitness > 0.1 ? fitness : 0.1;
        fitness = need[i] <= pool ? 1.0 : fitness;
        fitness = need[i] > 0.0 ? fitness : 0.5;
        double spread = 1.0 - local[i];
        spread = spread < 0.05 ? 0.05 : spread;
        double score = popularity[i] < 1.0 ? 1.0 : popularity[i]; /* this way round, NaN stays NaN */
        score = score * rarity * fitness * spread * factor[i] + jitter[i];
        score = factor[i] < 0.0 ? score - score : score; /* nothing at all, but NaN stays NaN */
        out[i] = score;
        bad += !(score - score == 0.0);
    }
    return bad;
}

static int64_t hali_acquire(const hali_acquisition *columns, size_t rows, double *out) {
    double factor[HALI_ROWS];
    int64_t bad = 0;
    for (size_t at = 0; at < rows; at += HALI_ROWS) {
        size_t n = rows - at < HALI_ROWS ? rows - at : HALI_ROWS;
        for (size_t i = 0; i < n; i++)
            factor[i] = columns->factors[columns->marks[at + i]];
        bad += hali_acquire_block(columns, factor, at, n, out + at);
    }
    return bad;
}

/* Prune scores of n <= HALI_ROWS rows from row `at` on. */
HALI_WIDEST static void hali_prune_block(
    const hali_prune *c, const double *HALI_RESTRICT term, size_t at, size_t n, double *HALI_RESTRICT out) {
    const double *holders = c->holders + at, *target = c->target + at, *near = c->near + at, *demand = c->demand + at;
    const double *acquired = c->acquired + at, *requested = c->requested + at, *load = c->load + at;
    const double margin = c->margin, urgency = c->urgency;
    for (size_t i = 0; i < n; i++) {
        double keep = target[i] + margin;
        keep = keep < 2.0 ? 2.0 : keep;
        double score = term[i] + holders[i] / target[i];
        score = score + (holders[i] >= 2.0 * target[i] ? 1.0 : 0.0);
        score = score + urgency;
        score = score - (acquired[i] >= 30.0 ? 0.0 : 0.2);
        double wanted = demand[i] <= 0.1 ? 0.0 : 0.2;
        wanted = demand[i] <= 1.0 ? wanted : 0.5;
        wanted = demand[i] <= 10.0 ? wanted : 1.0;
        score = score - wanted;
        score = score - (requested[i] >= 60.0 ? 0.0 : 1.5);
        int may = (holders[i] > keep) & (holders[i] < INFINITY) & (target[i] >= 1.0) & (near[i] >= 2.0)
            & (requested[i] >= 5.0) & (load[i] >= 0.0) & (load[i] <= 3.0);
        out[i] = may ? score : -INFINITY;
    }
}

static void hali_prune_all(const hali_prune *columns, size_t rows, double *out) {
    double term[HALI_ROWS];
    for (size_t at = 0; at < rows; at += HALI_ROWS) {
        size_t n = rows - at < HALI_ROWS ? rows - at : HALI_ROWS;
        for (size_t i = 0; i < n; i++) {
            uint16_t mark = columns->marks[at + i];
            term[i] = columns->terms[(mark & 63) | (mark > 63) << 6]; /* no branch: marks are hard to predict */
        }
        hali_prune_block(columns, term, at, n, out + at);
    }
}

/* Whether any of n scores is above `limit`; NaN is not. */
HALI_WIDEST static int hali_any_above(const double *scores, size_t n, double limit) {
    int64_t above = 0;
    for (size_t i = 0; i < n; i++)
        above |= scores[i] > limit ? 1 : 0;
    return above != 0;
}

#endif

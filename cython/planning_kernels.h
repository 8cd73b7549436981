/* The step of planning.pyx that looks at each pair of regions, for several regions at once. */
#ifndef HALI_PLANNING_KERNELS_H
#define HALI_PLANNING_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "widest.h"

#define HALI_MOST_REGIONS 64
#define HALI_NEVER (INT64_MAX / 4) /* no way; two of them can be added */

typedef struct {
    int64_t cost, node;
} hali_label;

/* For a hidden state in each of `regions`: the two cheapest entries (two a region, by cost then node), the path there
 * included. `path_to` is to × from. Of equal costs the lower node is the better one. */
HALI_WIDEST static void hali_between_regions(
    const int64_t *path_to, const hali_label *entries, size_t regions, hali_label *labels) {
    int64_t best[HALI_MOST_REGIONS], second[HALI_MOST_REGIONS], best_node[HALI_MOST_REGIONS], second_node[HALI_MOST_REGIONS];
    for (size_t here = 0; here < regions; here++) {
        best[here] = second[here] = HALI_NEVER;
        best_node[here] = second_node[here] = -1;
    }
    for (size_t i = 0; i < 2 * regions; i++) {
        const int64_t *path = path_to + i / 2 * regions, entry = entries[i].cost, node = entries[i].node;
        if (entry >= HALI_NEVER)
            continue;
        for (size_t here = 0; here < regions; here++) {
            int64_t cost = entry + path[here];
            int64_t first_was = best[here], second_was = second[here];
            int64_t first_node = best_node[here], other_node = second_node[here];
            int first = (cost < first_was) | ((cost == first_was) & (node < first_node));
            int other = (cost < second_was) | ((cost == second_was) & (node < other_node));
            second[here] = first ? first_was : other ? cost : second_was;
            second_node[here] = first ? first_node : other ? node : other_node;
            best[here] = first ? cost : first_was;
            best_node[here] = first ? node : first_node;
        }
    }
    for (size_t here = 0; here < regions; here++) {
        labels[2 * here] = (hali_label){best[here], best_node[here]};
        labels[2 * here + 1] = (hali_label){second[here], second_node[here]};
    }
}

#endif

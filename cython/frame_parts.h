/* A large f32 tensor in parts, on two cores.
 *
 * Nothing is converted there, so the pass takes as long as memory does, and one core alone does not keep memory busy:
 * 16 MiB there and back take 0.8 ms on one, 0.5 on two. The caller and one helper take parts from the same count until
 * none is left. The caller never waits for a helper to be scheduled: on a busy machine it does all parts itself, and the
 * helper, when it comes, finds nothing to do and touches neither tensor. Small tensors stay on one core, and so does all
 * where a thread is refused.
 */
#ifndef HALI_FRAME_PARTS_H
#define HALI_FRAME_PARTS_H

#include <stddef.h>

#define HALI_PART ((size_t)1 << 18)       /* values: 1 MiB, some 40 µs */
#define HALI_PARTS_FROM ((size_t)1 << 20) /* values: 4 MiB; a thread costs some 20 µs, a tenth of what is won here */

/* Copies n values, or only looks at them where dst is NULL; whether all are finite. */
typedef int (*hali_finite_pass)(void *dst, const void *src, size_t n);

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct {
    hali_finite_pass pass;
    char *dst;
    const char *src;
    size_t n, count;
    atomic_size_t next, done;
    atomic_int bad, owners;
} hali_parts;

static inline void hali_take_parts(hali_parts *parts) {
    size_t part;
    while ((part = atomic_fetch_add(&parts->next, 1)) < parts->count) {
        size_t at = part * HALI_PART, n = parts->n - at < HALI_PART ? parts->n - at : HALI_PART;
        if (!parts->pass(parts->dst ? parts->dst + 4 * at : NULL, parts->src + 4 * at, n))
            atomic_store(&parts->bad, 1);
        atomic_fetch_add(&parts->done, 1);
    }
}

/* Whoever goes last takes the parts along: the helper may come when the caller is long gone. */
static inline void hali_leave_parts(hali_parts *parts) {
    if (atomic_fetch_sub(&parts->owners, 1) == 1)
        free(parts);
}

static inline void *hali_help(void *parts) {
    hali_take_parts(parts);
    hali_leave_parts(parts);
    return NULL;
}

static inline int hali_start_helper(hali_parts *parts) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, hali_help, parts) != 0)
        return 0;
    pthread_detach(thread);
    return 1;
}

static inline int hali_in_parts(hali_finite_pass pass, void *dst, const void *src, size_t n) {
    hali_parts *parts = n < HALI_PARTS_FROM ? NULL : malloc(sizeof *parts);
    int good;
    if (parts == NULL)
        return pass(dst, src, n);
    *parts = (hali_parts){.pass = pass, .dst = dst, .src = src, .n = n, .count = (n + HALI_PART - 1) / HALI_PART};
    atomic_init(&parts->owners, 2);
    if (!hali_start_helper(parts))
        hali_leave_parts(parts);
    hali_take_parts(parts);
    while (atomic_load(&parts->done) < parts->count)
        sched_yield(); /* the helper is in the middle of its last part */
    good = !atomic_load(&parts->bad);
    hali_leave_parts(parts);
    return good;
}
#else
static inline int hali_in_parts(hali_finite_pass pass, void *dst, const void *src, size_t n) { return pass(dst, src, n); }
#endif

#endif

# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, autotestdict=False, auto_pickle=False
"""Auto-shard scores over columns, and the best k of them. Docs: scoring.pyi; the loops: scoring_kernels.h."""

from libc.math cimport INFINITY, isfinite, isnan
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, malloc

CONFIGURED, PINNED_HERE, PINNED_ELSEWHERE, SOURCE_NEAR, COMPLETES_CHAIN = [1 << bit for bit in range(5)]
COLD, ENDS_MODEL, RAREST, SURPLUS, SPLITS_RANGE, ISLAND = [1 << bit for bit in range(6)]
(
    KEEP_LOCKED, KEEP_POOL_PINNED, KEEP_USER_PINNED, KEEP_CONFIGURED, KEEP_DOWNLOADING,
    KEEP_RUNNING, KEEP_ENCRYPTED, KEEP_NO_SOURCE, KEEP_COOLING_DOWN, KEEP_LAST_CHAIN,
) = [1 << bit for bit in range(6, 16)]

cdef extern from "scoring_kernels.h" nogil:
    enum:
        HALI_ROWS
    ctypedef struct hali_acquisition:
        const double *popularity
        const double *holders
        const double *average
        const double *need
        const double *local
        const double *jitter
        const uint8_t *marks
        const double *factors
        double minimum
        double pool
    ctypedef struct hali_prune:
        const double *holders
        const double *target
        const double *near
        const double *demand
        const double *acquired
        const double *requested
        const double *load
        const uint16_t *marks
        const double *terms
        double margin
        double urgency
    int64_t hali_acquire(const hali_acquisition *columns, size_t rows, double *out)
    void hali_prune_all(const hali_prune *columns, size_t rows, double *out)
    int hali_any_above(const double *scores, size_t n, double limit)

cdef double[256] _FACTORS
cdef double[128] _TERMS


cdef _fill_tables():
    """What each combination of marks comes to; every product and sum here is exact or rounded in this order."""
    for mark in range(256):
        factor = 100.0 if mark & CONFIGURED else 1.0
        factor *= 1000.0 if mark & PINNED_HERE else 1.0
        factor *= 1.5 if mark & SOURCE_NEAR else 1.0
        factor *= 1.5 if mark & COMPLETES_CHAIN else 1.0
        _FACTORS[mark] = -1.0 if mark & PINNED_ELSEWHERE else factor
    for mark in range(64):
        term = 1.0 if mark & COLD else 0.0
        term -= 0.5 if mark & ENDS_MODEL else 0.0
        term -= 0.3 if mark & RAREST else 0.0
        term += 0.5 if mark & SURPLUS else 0.0
        term -= 0.5 if mark & SPLITS_RANGE else 0.0
        term += 0.5 if mark & ISLAND else 0.0
        _TERMS[mark] = term
        _TERMS[64 + mark] = -INFINITY


_fill_tables()


cdef Py_ssize_t _same_length(lengths) except -1:
    if len(set(lengths)) > 1:
        raise ValueError(f"columns differ in length: {sorted(set(lengths))}")
    return lengths[0]


def score_candidates(
    const double[::1] popularity not None,
    const double[::1] region_holders not None,
    const double[::1] region_average not None,
    const double[::1] need_bytes not None,
    const double[::1] local_fraction not None,
    const double[::1] jitter not None,
    const uint8_t[::1] marks not None,
    double[::1] out not None,
    *,
    double region_minimum,
    double pool_bytes,
):
    cdef int64_t bad
    cdef hali_acquisition columns
    cdef Py_ssize_t n = _same_length((
        out.shape[0], popularity.shape[0], region_holders.shape[0], region_average.shape[0], need_bytes.shape[0],
        local_fraction.shape[0], jitter.shape[0], marks.shape[0],
    ))
    if n == 0:
        return
    columns.popularity, columns.holders, columns.average = &popularity[0], &region_holders[0], &region_average[0]
    columns.need, columns.local, columns.jitter = &need_bytes[0], &local_fraction[0], &jitter[0]
    columns.marks, columns.factors = &marks[0], _FACTORS
    columns.minimum, columns.pool = region_minimum, pool_bytes
    with nogil:
        bad = hali_acquire(&columns, n, &out[0])
    if bad:
        raise ValueError(f"{bad} of {n} scores are not finite")


cdef double _margin(double pressure):
    """Replicas kept above the target; unknown pressure is none."""
    if pressure > 0.95:
        return -2.0
    if pressure > 0.8:
        return -1.0
    return 0.0 if pressure >= 0.5 else 1.0


def prune_scores(
    const double[::1] holders not None,
    const double[::1] target not None,
    const double[::1] near_holders not None,
    const double[::1] demand not None,
    const double[::1] acquired_minutes not None,
    const double[::1] requested_minutes not None,
    const double[::1] others_load not None,
    const uint16_t[::1] marks not None,
    double[::1] out not None,
    *,
    double pressure,
    double schedule=0.0,
):
    cdef hali_prune columns
    cdef Py_ssize_t n = _same_length((
        out.shape[0], holders.shape[0], target.shape[0], near_holders.shape[0], demand.shape[0],
        acquired_minutes.shape[0], requested_minutes.shape[0], others_load.shape[0], marks.shape[0],
    ))
    if not isfinite(schedule) or not (isnan(pressure) or 0.0 <= pressure <= 1.0):
        raise ValueError(f"pressure {pressure} must be within 0 and 1 (or NaN), schedule {schedule} finite")
    if n == 0:
        return
    columns.holders, columns.target, columns.near = &holders[0], &target[0], &near_holders[0]
    columns.demand, columns.load = &demand[0], &others_load[0]
    columns.acquired, columns.requested = &acquired_minutes[0], &requested_minutes[0]
    columns.marks, columns.terms = &marks[0], _TERMS
    columns.margin = _margin(pressure)
    columns.urgency = 0.5 * ((0.0 if isnan(pressure) else pressure) + schedule)
    with nogil:
        hali_prune_all(&columns, n, &out[0])


cdef inline bint _worse(const double *scores, Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """Whether row a comes after row b; among equals the later row is the worse one, so the order is total."""
    return scores[a] < scores[b] or (scores[a] == scores[b] and a > b)


cdef void _sink(const double *scores, Py_ssize_t *heap, Py_ssize_t size, Py_ssize_t at) noexcept nogil:
    """Restore the heap (the worst row on top) below position at."""
    cdef Py_ssize_t child, row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _worse(scores, heap[child + 1], heap[child]):
            child += 1
        if not _worse(scores, heap[child], row):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = row


cdef Py_ssize_t _select(const double *scores, Py_ssize_t n, double above, Py_ssize_t *heap, Py_ssize_t k) noexcept nogil:
    """Leave the best k rows with a score above `above` in heap, best first; how many there are."""
    cdef Py_ssize_t row, at, end, block = 0, size = 0
    cdef double limit = above  # what a row must exceed to come in
    while block < n:
        end = min(block + HALI_ROWS, n)
        if hali_any_above(scores + block, end - block, limit):  # soon hardly a block has one
            for row in range(block, end):
                if not scores[row] > limit:
                    continue
                if size < k:
                    heap[size] = row
                    size += 1
                    if size == k:
                        for at in range(k // 2 - 1, -1, -1):
                            _sink(scores, heap, size, at)
                        limit = scores[heap[0]]
                else:
                    heap[0] = row
                    _sink(scores, heap, size, 0)
                    limit = scores[heap[0]]
        block = end
    for at in range(size // 2 - 1, -1, -1):
        _sink(scores, heap, size, at)
    for at in range(size - 1, 0, -1):  # heap sort: the worst goes last
        row = heap[at]
        heap[at] = heap[0]
        heap[0] = row
        _sink(scores, heap, at, 0)
    return size


def top_k(const double[::1] scores not None, Py_ssize_t k, *, double above=0.0):
    cdef Py_ssize_t n = scores.shape[0], found = 0, at
    cdef Py_ssize_t *heap
    if isnan(above):
        raise ValueError("above is NaN: nothing compares with it")
    k = min(k, n)
    if k <= 0:
        return []
    heap = <Py_ssize_t *>malloc(k * sizeof(Py_ssize_t))
    if heap == NULL:
        raise MemoryError
    try:
        with nogil:
            found = _select(&scores[0], n, above, heap, k)
        return [heap[at] for at in range(found)]
    finally:
        free(heap)

# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, autotestdict=False, auto_pickle=False
"""Auto-shard scores over columns, and the best k of them. Docs: scoring.pyi.

The kernel is one pass: each column is read once, the score written once, no Python object touched. Choices are
arithmetic, or conditional expressions over values already computed: a compiler makes no branches of those and does
several rows at once, where a branch for each random mark took five times as long.
"""

from libc.math cimport isfinite
from libc.stdlib cimport free, malloc

CONFIGURED = 1
PINNED_HERE = 2
PINNED_ELSEWHERE = 4
SOURCE_NEAR = 8
COMPLETES_CHAIN = 16

cdef enum:
    _CONFIGURED = 1
    _PINNED_HERE = 2
    _PINNED_ELSEWHERE = 4
    _SOURCE_NEAR = 8
    _COMPLETES_CHAIN = 16


cdef inline double _rarity(double holders, double average, double minimum) noexcept nogil:
    """Nobody near: 20. Fewer than wanted: 10 shared out. Otherwise how thin the unit is against the average one."""
    cdef double numerator = 10.0 if holders < minimum else average + 1.0
    cdef double rarity = numerator / (holders + 1.0)
    return 20.0 if holders <= 0.0 else rarity


cdef inline double _fitness(double need, double pool) noexcept nogil:
    """Whether the model fits the memory at hand; an unknown size is a reason to hesitate, not to refuse."""
    cdef double share = pool / need
    share = share if share > 0.1 else 0.1
    share = 1.0 if need <= pool else share
    return share if need > 0.0 else 0.5


cdef void _score(
    const double *popularity, const double *holders, const double *average, const double *need,
    const double *local, const double *jitter, const unsigned char *marks, double minimum, double pool,
    double *restrict scores, Py_ssize_t n,
) noexcept nogil:
    """Fill scores. NaN in any column gives NaN."""
    cdef Py_ssize_t row
    cdef double score, spread, known
    cdef int mark
    for row in range(n):
        mark = marks[row]
        known = popularity[row]
        spread = 1.0 - local[row]
        spread = 0.05 if spread < 0.05 else spread
        score = 1.0 if known < 1.0 else known  # this way round, NaN stays NaN
        score = score * _rarity(holders[row], average[row], minimum)
        score = score * (1 + 99 * (mark & _CONFIGURED))
        score = score * (1 + 999 * ((mark & _PINNED_HERE) >> 1))
        score = score * _fitness(need[row], pool)
        score = score * spread
        score = score * (1.0 + 0.5 * ((mark & _SOURCE_NEAR) >> 3))
        score = score * (1.0 + 0.5 * ((mark & _COMPLETES_CHAIN) >> 4))
        scores[row] = (score + jitter[row]) * (1 - ((mark & _PINNED_ELSEWHERE) >> 2))


cdef Py_ssize_t _not_finite(const double *scores, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t row, bad = 0
    for row in range(n):
        bad += not isfinite(scores[row])
    return bad


def score_candidates(
    const double[::1] popularity not None,
    const double[::1] region_holders not None,
    const double[::1] region_average not None,
    const double[::1] need_bytes not None,
    const double[::1] local_fraction not None,
    const double[::1] jitter not None,
    const unsigned char[::1] marks not None,
    double[::1] out not None,
    *,
    double region_minimum,
    double pool_bytes,
):
    cdef Py_ssize_t n = out.shape[0], bad = 0
    lengths = {
        popularity.shape[0], region_holders.shape[0], region_average.shape[0], need_bytes.shape[0],
        local_fraction.shape[0], jitter.shape[0], marks.shape[0], n,
    }
    if len(lengths) > 1:
        raise ValueError(f"columns differ in length: {sorted(lengths)}")
    if n == 0:
        return
    with nogil:
        _score(
            &popularity[0], &region_holders[0], &region_average[0], &need_bytes[0], &local_fraction[0], &jitter[0],
            &marks[0], region_minimum, pool_bytes, &out[0], n,
        )
        bad = _not_finite(&out[0], n)
    if bad:
        raise ValueError(f"{bad} of {n} scores are not finite")


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


cdef Py_ssize_t _select(const double *scores, Py_ssize_t n, Py_ssize_t *heap, Py_ssize_t k) noexcept nogil:
    """Leave the best k rows with a score above zero in heap, best first; how many there are."""
    cdef Py_ssize_t row, at, size = 0
    for row in range(n):
        if not scores[row] > 0.0:
            continue
        if size < k:
            heap[size] = row
            size += 1
            if size == k:
                for at in range(k // 2 - 1, -1, -1):
                    _sink(scores, heap, size, at)
        elif scores[row] > scores[heap[0]]:
            heap[0] = row
            _sink(scores, heap, size, 0)
    for at in range(size // 2 - 1, -1, -1):
        _sink(scores, heap, size, at)
    for at in range(size - 1, 0, -1):  # heap sort: the worst goes last
        row = heap[at]
        heap[at] = heap[0]
        heap[0] = row
        _sink(scores, heap, at, 0)
    return size


def top_k(const double[::1] scores not None, Py_ssize_t k):
    cdef Py_ssize_t n = scores.shape[0], found = 0, at
    cdef Py_ssize_t *heap
    k = min(k, n)
    if k <= 0:
        return []
    heap = <Py_ssize_t *>malloc(k * sizeof(Py_ssize_t))
    if heap == NULL:
        raise MemoryError
    try:
        with nogil:
            found = _select(&scores[0], n, heap, k)
        return [heap[at] for at in range(found)]
    finally:
        free(heap)

# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, autotestdict=False, auto_pickle=False
"""Prices of nodes and the cheapest chain of stages over (node, layer). Docs and the cost model: planning.pyi.

Costs are whole nanoseconds, so that sums are exact and ties are ties. In here they are shifted left by ten bits, and
the low bits count stages: one comparison of two numbers is the comparison of cost, then stages.

The chain is found from its end. `labels[b][r]` is the cheapest way to go on from layer b when the hidden state is in
region r, together with the cheapest one that begins on another node, for a node must not follow itself; there is such a
table for each set of the *exclusive* nodes, those that must not come again at all. A path between
two nodes costs leave(node) + path(region, region) + enter(node); so a layer takes one look at each node, for the best
entry into each region, and one at each pair of regions.
"""

from libc.math cimport rint
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc

cdef enum:
    _SHIFT = 10  # bits that count stages

MOST_LAYERS = 1000  # as many stages as that can be counted
MOST_EXCLUSIVE = 12  # each doubles time and memory
HAS_EMBEDDING, HAS_HEAD, IN_POOL = 1, 2, 4

cdef extern from "planning_kernels.h" nogil:
    int64_t _NEVER "HALI_NEVER"
    Py_ssize_t _MOST_REGIONS "HALI_MOST_REGIONS"
    ctypedef struct Label "hali_label":
        int64_t cost
        int64_t node
    void hali_between_regions(const int64_t *path_to, const Label *entries, size_t regions, Label *labels)

cdef double _LONGEST = 35e12  # ns, just below 2^45: nothing that takes ten hours is a plan

ctypedef struct Held:
    # a range that a node holds: all that a look at it needs, side by side in memory
    int64_t per_layer, fixed, enter, leave, first, last
    int32_t node, region, start, end
    int64_t room              # layers that the node may run
    int64_t head, tail        # of its candidates
    Py_ssize_t bit            # of its node among the exclusive ones, or 0

ctypedef struct Candidate:
    int64_t key, end

ctypedef struct Problem:
    Py_ssize_t count, regions
    Py_ssize_t full           # the set of all exclusive nodes, as bits
    Py_ssize_t size           # labels of one set: two for each layer and region
    int64_t layers
    Held *rows
    Candidate *candidates     # of row i from `offset[i]`: ends of a stage that may become the best one, the best first
    Py_ssize_t *offset
    int32_t *active           # rows that have layer l: from `begin[l]` to `begin[l + 1]`, ascending
    Py_ssize_t *begin
    int64_t *path_to          # regions × regions, to × from


cdef inline int64_t _onward(
    const Problem *p, const Held *row, int64_t end, Py_ssize_t free_nodes, const Label *labels
) noexcept nogil:
    """What comes after a stage of the row that ends at layer `end`, when `free_nodes` and not the row's may be used."""
    cdef const Label *pair
    if end == p.layers:
        return row.last
    pair = labels + (free_nodes & ~row.bit) * p.size + 2 * (end * p.regions + row.region)
    return row.leave + pair[pair[0].node == row.node].cost


cdef inline int64_t _stage(
    const Problem *p, Py_ssize_t place, int64_t at, Py_ssize_t free_nodes, const Label *labels
) noexcept nogil:
    """The cheapest stage of this row that begins at layer `at`, and all after it; called for each layer downwards."""
    cdef Held *row = p.rows + place
    cdef Candidate *candidates = p.candidates + p.offset[place]
    cdef int64_t head = row.head, tail = row.tail, key = _onward(p, row, at + 1, free_nodes, labels)
    if at + 1 == row.end:
        head = tail = 0
    if key < _NEVER:
        key += row.per_layer * (at + 1)
        # of equal ones the nearer end stays; an end that is further and no cheaper never comes up again
        while tail > head and candidates[tail - 1].key >= key:
            tail -= 1
        candidates[tail].key, candidates[tail].end = key, at + 1
        tail += 1
    while tail > head and candidates[head].end > at + row.room:
        head += 1
    row.head, row.tail = head, tail
    if tail == head:
        return _NEVER
    return candidates[head].key - row.per_layer * at + row.fixed + 1


cdef Label _sweep(
    const Problem *p, Py_ssize_t free_nodes, const Label *onward, Label *labels, Label *entries
) noexcept nogil:
    """Fill the labels of `free_nodes`, from the last layer to the first, with chains that go on as `onward` says; the
    cheapest chain.

    With `onward` being `labels` itself, a chain may have any number of stages; otherwise one more than those in there.
    """
    cdef int64_t at, cost
    cdef Py_ssize_t i
    cdef Held *row
    cdef Label best
    cdef Label *pair
    best.cost, best.node = _NEVER, -1
    for at in range(p.layers - 1, -1, -1):
        for i in range(2 * p.regions):
            entries[i].cost, entries[i].node = _NEVER, -1
        for i in range(p.begin[at], p.begin[at + 1]):
            row = p.rows + p.active[i]
            if row.bit & ~free_nodes:
                continue
            cost = _stage(p, p.active[i], at, free_nodes, onward)
            if at == 0:
                if cost + row.first < best.cost:
                    best.cost, best.node = cost + row.first, row.node
                continue
            pair = entries + 2 * row.region
            cost += row.enter
            if cost < pair[0].cost:
                pair[1] = pair[0]
                pair[0].cost, pair[0].node = cost, row.node
            elif cost < pair[1].cost:
                pair[1].cost, pair[1].node = cost, row.node
        if at > 0 and labels != NULL:
            hali_between_regions(p.path_to, entries, p.regions, labels + free_nodes * p.size + 2 * at * p.regions)
    return best


cdef int64_t _shifted(int64_t cost) noexcept nogil:
    return cost << _SHIFT if cost <= _LONGEST else _NEVER


cdef list _walk(const Problem *p, int64_t node, const Label *labels, Py_ssize_t step):
    """The stages that the labels stand for; each further one is read `step` labels lower."""
    cdef int64_t at = 0, end, chosen, cost, best
    cdef Py_ssize_t free_nodes = p.full
    cdef Held *row
    cdef const Label *pair
    stages = []
    while True:
        row = p.rows
        while row.node != node or not row.start <= at < row.end:
            row += 1
        best, chosen = _NEVER, -1
        for end in range(at + 1, min(<int64_t>row.end, at + row.room) + 1):
            cost = _onward(p, row, end, free_nodes, labels)
            if cost < _NEVER and cost + row.per_layer * end < best:
                best, chosen = cost + row.per_layer * end, end
        if chosen < 0:
            raise RuntimeError("the labels do not lead to the last layer")
        stages.append((node, at, chosen))
        if chosen == p.layers:
            return stages
        free_nodes &= ~row.bit
        pair = labels + free_nodes * p.size + 2 * (chosen * p.regions + row.region)
        node, at = pair[pair[0].node == node].node, chosen
        labels -= step


cdef void _index(Problem *p) noexcept nogil:
    """Which rows have each layer, and where the candidates of each row lie."""
    cdef Py_ssize_t at, i, found = 0
    for i in range(p.count):
        p.offset[i] = found
        found += p.rows[i].end - p.rows[i].start
    for at in range(p.layers + 1):
        p.begin[at] = 0
    for i in range(p.count):
        for at in range(p.rows[i].start, p.rows[i].end):
            p.begin[at + 1] += 1
    for at in range(p.layers):
        p.begin[at + 1] += p.begin[at]
    for i in range(p.count):  # begin[l] runs on to the end of l while it is filled
        for at in range(p.rows[i].start, p.rows[i].end):
            p.active[p.begin[at]] = i
            p.begin[at] += 1
    for at in range(p.layers, 0, -1):
        p.begin[at] = p.begin[at - 1]
    p.begin[0] = 0


cdef void _fill(Held *row, const int64_t[:] prices, int64_t layers) noexcept nogil:
    """The prices of its node; one that cannot run all layers in ten hours, or not even one, leads nowhere."""
    row.per_layer, row.fixed, row.enter = _shifted(prices[0]), _shifted(prices[1]), _shifted(prices[2])
    row.leave, row.first, row.last = _shifted(prices[3]), _shifted(prices[4]), _shifted(prices[5])
    if row.per_layer >= _NEVER or row.fixed >= _NEVER or prices[0] * layers > _LONGEST:
        row.per_layer = row.fixed = 0  # never multiplied or added, so that nothing overflows
        row.leave = row.last = _NEVER


cdef object _solve(const Problem *p, Py_ssize_t most_stages):
    cdef Py_ssize_t level = (p.full + 1) * p.size, depth, free_nodes, i
    cdef Label *levels = <Label *>malloc(level * sizeof(Label))
    cdef Label *entries = <Label *>malloc(2 * p.regions * sizeof(Label))
    cdef Label *fewer
    cdef Label best
    try:
        if levels == NULL or entries == NULL:
            raise MemoryError
        with nogil:
            best.cost, best.node = _NEVER, -1
            for free_nodes in range(p.full + 1):  # a set comes after all sets within it
                best = _sweep(p, free_nodes, levels, levels, entries)
        if best.cost >= _NEVER:
            return None
        if best.cost & ((1 << _SHIFT) - 1) <= most_stages:
            return best.cost >> _SHIFT, _walk(p, best.node, levels, 0)
        fewer = <Label *>realloc(levels, most_stages * level * sizeof(Label))  # too many stages: count them
        if fewer == NULL:
            raise MemoryError
        levels = fewer
        with nogil:
            for i in range(level):
                levels[i].cost, levels[i].node = _NEVER, -1
            for depth in range(1, most_stages):
                for free_nodes in range(p.full + 1):
                    _sweep(p, free_nodes, levels + (depth - 1) * level, levels + depth * level, entries)
            best = _sweep(p, p.full, levels + (most_stages - 1) * level, NULL, entries)
        if best.cost >= _NEVER:
            return None
        return best.cost >> _SHIFT, _walk(p, best.node, levels + (most_stages - 1) * level, level)
    finally:
        free(levels)
        free(entries)


cdef inline int64_t _ns(double ms) noexcept nogil:
    """Whole nanoseconds; what is unknown, negative or takes too long is forbidden."""
    return <int64_t>rint(ms * 1e6) if 0.0 <= ms and ms * 1e6 <= _LONGEST else INT64_MAX


cdef inline int64_t _sum(int64_t a, int64_t b, int64_t c) noexcept nogil:
    return INT64_MAX if a == INT64_MAX or b == INT64_MAX or c == INT64_MAX else a + b + c


def price(
    const double[:, ::1] measured not None,
    const double[:, ::1] rtt_ms not None,
    const int32_t[::1] region not None,
    const uint8_t[::1] marks not None,
    const double[::1] warm_tokens not None,
    int64_t[:, ::1] prices not None,
    int64_t[:, ::1] path not None,
    int32_t[::1] most not None,
    *,
    Py_ssize_t requester,
    int layers,
    int prompt,
    int reply,
    int context,
    bint boomerang,
    double hidden_bytes,
    double id_bytes,
    double layer_bytes,
    double kv_bytes,
    double buffer_bytes,
    double outside_pool,
):
    cdef Py_ssize_t n = region.shape[0], regions = rtt_ms.shape[0], v, here, there
    cdef double passes = reply, tokens = <double>prompt + reply - 1, out_bytes, back_bytes, share, access, up, down, room
    cdef int64_t sending, taking
    if measured.shape[0] != 10 or prices.shape[0] != 6 or rtt_ms.shape[1] != regions:
        raise ValueError("columns are not as planning.pyi says")
    if {measured.shape[1], marks.shape[0], warm_tokens.shape[0], prices.shape[1], most.shape[0]} != {n}:
        raise ValueError(f"columns differ in length from the {n} regions")
    if path.shape[0] != regions or path.shape[1] != regions:
        raise ValueError("path and rtt_ms differ in shape")
    if not 0 <= requester < n or prompt < 1 or reply < 1:
        raise ValueError("requester, prompt or reply is out of range")
    for v in range(n):
        if not 0 <= region[v] < regions:
            raise ValueError(f"node {v} is in region {region[v]} of {regions}")
    with nogil:
        for here in range(regions):
            for there in range(regions):
                path[here, there] = _ns(passes * rtt_ms[here, there] / 2.0)
        out_bytes = tokens * (hidden_bytes if boomerang else id_bytes)
        back_bytes = passes * (hidden_bytes if boomerang else id_bytes)
        sending = _ns(passes * measured[0, requester] + out_bytes / measured[1, requester])
        taking = _ns(passes * measured[0, requester] + back_bytes / measured[2, requester])
        for v in range(n):
            share = 1.0 / measured[7, v]
            if not (marks[v] & 4 or v == requester):
                share = share * outside_pool
            access, up, down = passes * measured[0, v], measured[1, v], measured[2, v]
            room = prompt - warm_tokens[v]
            room = measured[3, v] * (room if room > 0.0 else 0.0) + measured[4, v] * (reply - 1)
            prices[0, v] = _ns(room * (1.0 + measured[6, v]) * share)
            prices[1, v] = _ns(measured[5, v] * share)
            prices[2, v] = _ns((access + tokens * hidden_bytes / down) * share)
            prices[3, v] = _ns((access + tokens * hidden_bytes / up) * share)
            here, there = region[requester], region[v]
            prices[4, v] = 0 if v == requester else _sum(
                sending, path[here, there], _ns((access + out_bytes / down) * share))
            prices[5, v] = 0 if v == requester else _sum(
                _ns((access + back_bytes / up) * share), path[there, here], taking)
            if not boomerang and not marks[v] & 1:
                prices[4, v] = INT64_MAX
            if not boomerang and not marks[v] & 2:
                prices[5, v] = INT64_MAX
            most[v] = layers
            room = (measured[8, v] - buffer_bytes) / (layer_bytes + context * kv_bytes)
            if room < layers:  # not where it is unknown: NaN
                most[v] = <int32_t>room if room > 0.0 else 0
            if measured[9, v] < context:
                most[v] = 0


def cheapest_chain(
    const int32_t[::1] row_node not None,
    const int32_t[::1] row_start not None,
    const int32_t[::1] row_end not None,
    const int32_t[::1] region not None,
    const int64_t[:, ::1] prices not None,
    const int64_t[:, ::1] path not None,
    const int32_t[::1] most not None,
    *,
    int layers,
    int most_stages,
    exclusive=(),
):
    cdef Problem p
    cdef Py_ssize_t n = region.shape[0], rows = row_node.shape[0], regions = path.shape[0], pairs = 0, i, v
    if not 0 < layers <= MOST_LAYERS or not 0 < most_stages <= layers:
        raise ValueError(f"{layers} layers in {most_stages} stages")
    if len(exclusive) > MOST_EXCLUSIVE:
        raise ValueError(f"{len(exclusive)} exclusive nodes, at most {MOST_EXCLUSIVE}")
    if regions > _MOST_REGIONS:
        raise ValueError(f"{regions} regions, at most {_MOST_REGIONS}")
    if row_start.shape[0] != rows or row_end.shape[0] != rows or path.shape[1] != regions:
        raise ValueError("columns differ in length")
    if prices.shape[0] != 6 or prices.shape[1] != n or most.shape[0] != n:
        raise ValueError("columns differ in length")
    for i in range(rows):
        if not (0 <= row_node[i] < n and 0 <= row_start[i] < row_end[i] <= layers):
            raise ValueError(f"row {i} is no layer range of a node")
        if i and (row_node[i - 1] > row_node[i] or (row_node[i - 1] == row_node[i] and row_end[i - 1] > row_start[i])):
            raise ValueError(f"row {i} is not in order or overlaps the one before")
    for v in range(n):
        if not 0 <= region[v] < regions:
            raise ValueError(f"node {v} is in region {region[v]} of {regions}")
    if rows == 0:
        return None
    for i in range(rows):
        pairs += row_end[i] - row_start[i]
    p.count, p.regions, p.layers = rows, regions, layers
    p.rows = <Held *>malloc(rows * sizeof(Held))
    p.candidates = <Candidate *>malloc(pairs * sizeof(Candidate))
    p.offset = <Py_ssize_t *>malloc((rows + layers + 1) * sizeof(Py_ssize_t))
    p.active = <int32_t *>malloc(pairs * sizeof(int32_t))
    p.path_to = <int64_t *>malloc(regions * regions * sizeof(int64_t))
    try:
        if p.rows == NULL or p.candidates == NULL or p.offset == NULL or p.active == NULL or p.path_to == NULL:
            raise MemoryError
        p.begin = p.offset + rows
        for i in range(rows):
            v = row_node[i]
            _fill(p.rows + i, prices[:, v], layers)
            p.rows[i].node, p.rows[i].region, p.rows[i].room = v, region[v], most[v]
            p.rows[i].start, p.rows[i].end, p.rows[i].bit = row_start[i], row_end[i], 0
        for i in range(regions):
            for v in range(regions):
                p.path_to[v * regions + i] = _shifted(path[i, v])
        p.full, p.size = (1 << len(exclusive)) - 1, 2 * layers * regions
        for v, node in enumerate(exclusive):
            for i in range(rows):
                if p.rows[i].node == node:
                    p.rows[i].bit = 1 << v
        _index(&p)
        return _solve(&p, most_stages)
    finally:
        free(p.rows)
        free(p.candidates)
        free(p.offset)
        free(p.active)
        free(p.path_to)

# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, autotestdict=False, auto_pickle=False
"""Prices of nodes and the cheapest chain of stages over (node, layer). Docs and the cost model: planning.pyi.

Costs are whole nanoseconds, so that sums are exact and ties are ties. In here they are shifted left by ten bits, and
the low bits count stages: one comparison of two numbers is the comparison of cost, then stages.

The chain is found from its end. `labels[b][r]` is the cheapest way to go on from layer b when the hidden state is in
region r, together with the cheapest one that begins on another node, for a node must not follow itself. A path between
two nodes costs leave(node) + path(region, region) + enter(node); so a layer takes one look at each node, for the best
entry into each region, and one at each pair of regions.
"""

from libc.math cimport rint
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

cdef enum:
    _SHIFT = 10  # bits that count stages

MOST_LAYERS = 1000  # as many stages as that can be counted
HAS_EMBEDDING, HAS_HEAD, IN_POOL = 1, 2, 4

cdef int64_t _NEVER = INT64_MAX // 4  # as a label: no way; two of them can be added
cdef double _LONGEST = 35e12  # ns, just below 2^45: nothing that takes ten hours is a plan

ctypedef struct Label:
    int64_t cost
    int64_t node

ctypedef struct Problem:
    Py_ssize_t rows, regions
    int64_t layers
    const int32_t *node       # of each row, ascending
    const int32_t *start
    const int32_t *end
    const int32_t *region     # of each node, as all below
    const int64_t *per_layer
    const int64_t *fixed
    const int64_t *enter
    const int64_t *leave
    const int64_t *first
    const int64_t *last
    const int32_t *most
    const int64_t *path       # regions × regions, from × to
    # where each row stands: candidates for the end of a stage, the best first
    int64_t *keys
    int32_t *ends
    int32_t *head
    int32_t *tail


cdef inline bint _better(int64_t cost, int64_t node, Label other) noexcept nogil:
    return cost < other.cost or (cost == other.cost and node < other.node)


cdef inline int64_t _onward(const Problem *p, int64_t node, int64_t end, const Label *labels) noexcept nogil:
    """What comes after a stage of the node that ends at layer `end`."""
    cdef const Label *pair
    if end == p.layers:
        return p.last[node]
    pair = labels + 2 * (end * p.regions + p.region[node])
    return p.leave[node] + pair[pair[0].node == node].cost


cdef inline int64_t _stage(const Problem *p, Py_ssize_t row, int64_t at, const Label *labels) noexcept nogil:
    """The cheapest stage of this row that begins at layer `at`, and all after it; called for each layer downwards."""
    cdef int64_t node = p.node[row], room = p.most[node]
    cdef int64_t key = _onward(p, node, at + 1, labels)
    cdef int64_t *keys = p.keys + row * p.layers
    cdef int32_t *ends = p.ends + row * p.layers
    cdef int32_t head = p.head[row], tail = p.tail[row]
    if at + 1 == p.end[row]:
        head = tail = 0
    if key < _NEVER:
        key += p.per_layer[node] * (at + 1)
        # of equal ones the nearer end stays; an end that is further and no cheaper never comes up again
        while tail > head and keys[tail - 1] >= key:
            tail -= 1
        keys[tail] = key
        ends[tail] = at + 1
        tail += 1
    while tail > head and ends[head] > at + room:
        head += 1
    p.head[row] = head
    p.tail[row] = tail
    if tail == head:
        return _NEVER
    return keys[head] - p.per_layer[node] * at + p.fixed[node] + 1


cdef void _between_regions(const Problem *p, const Label *entries, Label *labels) noexcept nogil:
    """The two cheapest first nodes for a hidden state in each region."""
    cdef Py_ssize_t here, there, which
    cdef int64_t cost, node
    cdef Label best, second
    for here in range(p.regions):
        best.cost = second.cost = _NEVER
        best.node = second.node = -1
        for there in range(p.regions):
            for which in range(2):
                cost = entries[2 * there + which].cost
                if cost >= _NEVER:
                    break
                cost += p.path[here * p.regions + there]
                node = entries[2 * there + which].node
                if not _better(cost, node, second):
                    break
                second.cost, second.node = cost, node
                if _better(cost, node, best):
                    second = best
                    best.cost, best.node = cost, node
        labels[2 * here] = best
        labels[2 * here + 1] = second


cdef Label _sweep(const Problem *p, const Label *onward, Label *labels, Label *entries) noexcept nogil:
    """Fill labels, from the last layer to the first, with chains that go on as `onward` says; the cheapest chain.

    With `onward` being `labels` itself, a chain may have any number of stages; otherwise one more than those in there.
    """
    cdef int64_t at, cost, node
    cdef Py_ssize_t row, i
    cdef Label best, label
    cdef Label *pair
    best.cost, best.node = _NEVER, -1
    for at in range(p.layers - 1, -1, -1):
        for i in range(2 * p.regions):
            entries[i].cost, entries[i].node = _NEVER, -1
        for row in range(p.rows):
            if at < p.start[row] or at >= p.end[row]:
                continue
            cost = _stage(p, row, at, onward)
            if cost >= _NEVER:
                continue
            node = p.node[row]
            if at == 0:
                label.cost, label.node = cost + p.first[node], node
                if label.cost < best.cost:
                    best = label
                continue
            pair = entries + 2 * p.region[node]
            cost += p.enter[node]
            if cost < pair[0].cost:
                pair[1] = pair[0]
                pair[0].cost, pair[0].node = cost, node
            elif cost < pair[1].cost:
                pair[1].cost, pair[1].node = cost, node
        if at > 0:
            _between_regions(p, entries, labels + 2 * at * p.regions)
    return best


cdef int64_t _shifted(int64_t cost) noexcept nogil:
    return cost << _SHIFT if cost <= _LONGEST else _NEVER


cdef list _walk(const Problem *p, int64_t node, const Label *labels, Py_ssize_t step):
    """The stages that the labels stand for; each further one is read `step` labels lower."""
    cdef int64_t at = 0, end, chosen, cost, best
    cdef Py_ssize_t row
    cdef const Label *pair
    stages = []
    while True:
        row = 0
        while p.node[row] != node or not p.start[row] <= at < p.end[row]:
            row += 1
        best, chosen = _NEVER, -1
        for end in range(at + 1, min(<int64_t>p.end[row], at + p.most[node]) + 1):
            cost = _onward(p, node, end, labels)
            if cost < _NEVER and cost + p.per_layer[node] * end < best:
                best, chosen = cost + p.per_layer[node] * end, end
        stages.append((node, at, chosen))
        if chosen == p.layers:
            return stages
        pair = labels + 2 * (chosen * p.regions + p.region[node])
        node, at = pair[pair[0].node == node].node, chosen
        labels -= step


cdef object _solve(Problem *p, Py_ssize_t most_stages):
    cdef Py_ssize_t size = 2 * (p.layers + 1) * p.regions, depth, i
    cdef Label *levels = <Label *>malloc((most_stages + 1) * size * sizeof(Label))
    cdef Label *entries = <Label *>malloc(2 * p.regions * sizeof(Label))
    cdef Label best
    try:
        if levels == NULL or entries == NULL:
            raise MemoryError
        with nogil:
            for i in range(size):
                levels[i].cost, levels[i].node = _NEVER, -1
            best = _sweep(p, levels, levels, entries)
        if best.cost >= _NEVER:
            return None
        if best.cost & ((1 << _SHIFT) - 1) <= most_stages:
            return best.cost >> _SHIFT, _walk(p, best.node, levels, 0)
        with nogil:  # too many stages: count them
            for i in range(size):
                levels[i].cost, levels[i].node = _NEVER, -1
            for depth in range(1, most_stages + 1):
                best = _sweep(p, levels + (depth - 1) * size, levels + depth * size, entries)
        if best.cost >= _NEVER:
            return None
        return best.cost >> _SHIFT, _walk(p, best.node, levels + (most_stages - 1) * size, size)
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
):
    cdef Problem p
    cdef Py_ssize_t n = region.shape[0], rows = row_node.shape[0], regions = path.shape[0], i, v
    cdef int64_t *costs
    if not 0 < layers <= MOST_LAYERS or not 0 < most_stages <= layers:
        raise ValueError(f"{layers} layers in {most_stages} stages")
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
    p.rows, p.regions, p.layers = rows, regions, layers
    p.node, p.start, p.end, p.region, p.most = &row_node[0], &row_start[0], &row_end[0], &region[0], &most[0]
    costs = <int64_t *>malloc((6 * n + regions * regions + rows * layers) * sizeof(int64_t))
    p.ends = <int32_t *>malloc((rows * layers + 2 * rows) * sizeof(int32_t))
    try:
        if costs == NULL or p.ends == NULL:
            raise MemoryError
        for i in range(6 * n):
            costs[i] = _shifted((&prices[0, 0])[i])
        for v in range(n):
            if costs[v] < _NEVER and prices[0, v] * layers > _LONGEST:
                costs[v] = _NEVER
            if costs[v] >= _NEVER or costs[n + v] >= _NEVER:  # a node that cannot run a layer leads nowhere
                costs[v] = costs[n + v] = 0
                costs[3 * n + v] = costs[5 * n + v] = _NEVER
        for i in range(regions * regions):
            costs[6 * n + i] = _shifted((&path[0, 0])[i])
        p.per_layer, p.fixed, p.enter, p.leave = costs, costs + n, costs + 2 * n, costs + 3 * n
        p.first, p.last, p.path = costs + 4 * n, costs + 5 * n, costs + 6 * n
        p.keys = costs + 6 * n + regions * regions
        p.head, p.tail = p.ends + rows * layers, p.ends + rows * layers + rows
        return _solve(&p, most_stages)
    finally:
        free(costs)
        free(p.ends)

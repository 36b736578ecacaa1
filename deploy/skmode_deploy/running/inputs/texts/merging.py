"""Merge the bytes of a word to tokens."""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

# By two neighbours: the rank of their merge, the lowest first, and the token that they become.
Merges = Mapping[tuple[int, int], tuple[int, int]]


def merge(tokens: list[int], merges: Merges) -> list[int]:
    """Merge neighbours until none can be merged; the time grows almost in line with the length.

    Of all pairs the one of the lowest rank comes first, and of equal ones the leftmost.
    """
    end = len(tokens)
    before, after = list(range(-1, end - 1)), list(range(1, end + 1))
    queue = [
        (found[0], i)
        for i, pair in enumerate(pairwise(tokens))
        if (found := merges.get(pair)) is not None
    ]
    if not queue:
        return tokens
    tokens = list(tokens)
    heapify(queue)
    while queue:
        rank, i = heappop(queue)
        right = after[i]
        if right == end or tokens[i] < 0:
            continue
        found = merges.get((tokens[i], tokens[right]))
        if found is None or found[0] != rank:  # a neighbour was merged with another one
            continue
        tokens[i], tokens[right] = found[1], -1
        after[i] = beyond = after[right]
        if beyond != end:
            before[beyond] = i
        for left in (before[i], i):
            if left >= 0 and after[left] != end:
                found = merges.get((tokens[left], tokens[after[left]]))
                if found is not None:
                    heappush(queue, (found[0], left))
    return [token for token in tokens if token >= 0]

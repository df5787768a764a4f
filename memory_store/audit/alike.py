"""Groups of like vectors: every pair is compared, exactly, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ROWS, COLUMNS = 1024, 16_384
"""Of a block: 64 MB of cosines."""
ROUNDING = 1e-6
"""Of a cosine of single-precision vectors: equal ones have a little less than 1."""
Group = tuple[int, list[tuple[int, float]]]
"""The place that leads, and the places it took with their cosines to it."""


def normal(vectors: Floats) -> Floats:
    """Rows of length 1; a zero row stays zero, and is like nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def groups(
    vectors: Floats, cosine: float, same: Callable[[int, int], bool], advance: Callable[[int], None] = lambda _: None
) -> list[Group]:
    """Each place in turn, unless an earlier one took it, leads a group and takes the later ones that are like it and the `same`.

    So every member is like the one that leads, and not only like another member. `vectors`: (places, dimension), of length 1.
    `advance` is told how many places are done. About places^2 * dimension operations; memory is bounded by the blocks.
    """
    free = np.ones(len(vectors), np.bool_)
    members: dict[int, list[tuple[int, float]]] = {}

    def take(leader: int, place: int, found: np.float32) -> None:
        if free[place] and same(leader, place):
            free[place] = False
            members.setdefault(leader, []).append((place, float(found)))

    for start in range(0, len(vectors), ROWS):
        block = vectors[start : start + ROWS]
        # Who leads is decided within the block, one after the other; what they take of the rest then needs no order of columns.
        cosines = block @ block.T
        leaders: list[int] = []
        for i in range(len(block)):
            if free[start + i]:
                leaders.append(start + i)
                for j in i + 1 + np.flatnonzero(cosines[i, i + 1 :] >= cosine - ROUNDING):
                    take(start + i, start + int(j), cosines[i, j])
        leading = vectors[leaders]
        for begin in range(start + ROWS, len(vectors), COLUMNS):
            cosines = leading @ vectors[begin : begin + COLUMNS].T
            hits = np.flatnonzero(cosines >= cosine - ROUNDING)
            for hit in hits:
                i, j = divmod(int(hit), cosines.shape[1])
                take(leaders[i], begin + j, cosines[i, j])
        advance(start + len(block))
    return sorted(members.items())

"""Mesh operations against their definitions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omote.geometry.mesh import unique_edges


@given(st.lists(st.tuples(*[st.integers(0, 40)] * 3).filter(lambda f: len(set(f)) == 3), max_size=30))
def test_unique_edges_are_the_sorted_set_of_pairs(faces: list[tuple[int, int, int]]) -> None:
    wanted = sorted({tuple(sorted(pair)) for a, b, c in faces for pair in ((a, b), (b, c), (c, a))})
    found = unique_edges(np.array(faces, np.int32).reshape(-1, 3))
    assert found.dtype == np.int32
    assert [tuple(e) for e in found.tolist()] == wanted

"""Offsets of a face's vertices to the whole head."""

import numpy as np

from omote.head.expressions import ARKIT_INDEX
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.lift.offsets import register_offsets


def test_an_expression_is_found_again_and_carries_what_no_view_shows() -> None:
    head = shipped_head()
    region, rest = head_region(head), head.template_mm
    arkit = np.zeros(52, np.float32)
    arkit[[ARKIT_INDEX["jawOpen"], ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthSmileRight"]]] = (0.5, 0.6, 0.6)
    true = head.vertices(None, arkit)
    ids = np.flatnonzero(region.weight > 0)
    found = register_offsets(head, rest, ids, (true - rest)[ids], belief=region.weight[ids], within_reach=False)
    off = np.linalg.norm(found.vertices_mm - true, axis=1)
    assert off[region.face].mean() < 0.3
    teeth = head.part_vertices("teeth_lower")
    assert np.linalg.norm(found.vertices_mm - rest, axis=1)[teeth].mean() > 3, "the jaw takes its teeth along"
    assert off[teeth].mean() < 1.0
    assert abs(found.weights[ARKIT_INDEX["jawOpen"]] - 0.5) < 0.1


def test_no_offset_is_no_motion_and_doubt_moves_less() -> None:
    head = shipped_head()
    region = head_region(head)
    ids = np.flatnonzero(region.weight > 0)
    still = register_offsets(head, head.template_mm, ids, np.zeros((len(ids), 3)), belief=region.weight[ids])
    assert np.abs(still.vertices_mm - head.template_mm).max() < 0.05
    arkit = np.zeros(52, np.float32)
    arkit[ARKIT_INDEX["jawOpen"]] = 0.5
    offsets = (head.vertices(None, arkit) - head.template_mm)[ids]
    sure, unsure = (
        register_offsets(
            head, head.template_mm, ids, offsets, belief=region.weight[ids], sigma_mm=np.full(len(ids), sigma)
        ).weights[ARKIT_INDEX["jawOpen"]]
        for sigma in (0.5, 300.0)
    )
    assert sure > unsure + 0.2

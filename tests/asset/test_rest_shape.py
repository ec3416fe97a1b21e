"""Lips of a scan that is brought to rest are closed, whether its expression had parted them or pressed them shut."""

from dataclasses import replace

import numpy as np
import pytest

from omote.align.align import Alignment, align
from omote.asset.rest_shape import rest_shape
from omote.evaluation.avatars import lip_gap_mm
from omote.head.expressions import arkit_weights
from omote.head.shipped import shipped_head
from omote.types import Mesh

HEAD = shipped_head()
PARTED = np.tensordot(arkit_weights({"jawOpen": 0.12}), HEAD.expression_mm, 1)


@pytest.fixture(scope="module")
def at_rest() -> Alignment:
    person = HEAD.vertices(0.5 * np.random.default_rng(4).standard_normal(HEAD.num_identity))
    return align(Mesh(vertices=person.astype(np.float64), faces=HEAD.faces.astype(np.int64)), head=HEAD)


@pytest.mark.parametrize("mouth", ["open", "closed", "unknown"])
def test_lips_are_closed_when_an_expression_is_removed(at_rest: Alignment, mouth: str) -> None:
    shown = replace(at_rest, shown={"mouthFrown": 0.5}, mouth=mouth, neutral_mm=at_rest.neutral_mm + PARTED)
    rest, parted = lip_gap_mm(HEAD, rest_shape(HEAD, at_rest)), lip_gap_mm(HEAD, shown.neutral_mm)
    # Lips slide along each other, so that the landmarks do not meet exactly as at rest.
    assert lip_gap_mm(HEAD, rest_shape(HEAD, shown)) - rest < 0.4 * (parted - rest)


def test_a_scan_at_rest_is_left_alone(at_rest: Alignment) -> None:
    parted = replace(at_rest, vertices_mm=at_rest.vertices_mm + PARTED)
    assert lip_gap_mm(HEAD, rest_shape(HEAD, parted)) > 2

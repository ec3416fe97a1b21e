"""The imitated fit lies on the person and forgets how skin slid; the training writes what alignment reads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omote.align.source_expression import load_regression
from omote.errors import HeadModelError
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.tools.source_expression import (
    ExpressionTraining,
    FamilyFaces,
    FitImitation,
    crossing,
    draw,
    posed,
    train_source_expression,
)


@pytest.fixture(scope="module")
def heads() -> list[HeadModel]:
    """The shipped head, and a family whose persons are wider and move more."""
    head = shipped_head()
    wide = np.array([1.1, 1.0, 1.0], np.float32)
    other = replace(
        head,
        name="other",
        template_mm=head.template_mm * wide,
        expression_mm=1.2 * head.expression_mm,
        unit_style=None,
    )
    return [head, other]


def test_a_matrix_of_the_cross_product() -> None:
    a, b = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    torch.testing.assert_close((crossing(a) @ b[..., None])[..., 0], torch.cross(a, b, dim=2))


def test_the_imitated_fit_lies_on_the_person(heads: list[HeadModel]) -> None:
    face = FamilyFaces(heads)
    generator = torch.Generator().manual_seed(0)
    vertices, motion = posed(face, draw(heads, 6, 100, np.random.default_rng(3)), generator)
    refined, moved = FitImitation(face).refined(vertices, motion, generator)
    assert refined.shape == moved.shape == (6, 3 * len(face.read))
    truth, normals = vertices[:, face.read], face.normals(vertices)[:, face.read]
    off = refined.view(6, -1, 3) - truth
    # Up to the pose, which the fit chooses, and noise, it lies on the surface; along it, it may have slid.
    across = (off * normals).sum(dim=2).abs().median()
    along = (off - (off * normals).sum(dim=2, keepdim=True) * normals).norm(dim=2).median()
    assert across < 1.0
    assert along > across
    lengths = moved.view(6, -1, 3).norm(dim=2)
    torch.testing.assert_close(lengths, motion[:, face.read].norm(dim=2), atol=1e-3, rtol=1e-3)


def test_training_writes_what_alignment_reads(heads: list[HeadModel], tmp_path: Path) -> None:
    config = ExpressionTraining(persons=60, epochs=6, components=24, width=32, batch_size=20)
    steps = list(train_source_expression(config, heads, tmp_path / "net.safetensors"))
    assert {stage for stage, *_ in steps} == {"draw", "train"}
    found = load_regression(tmp_path / "net.safetensors")
    assert found.head == heads[0].name
    plain, styled = found(heads[0].template_mm.astype(np.float64))
    assert plain.shape == styled.shape == (52,)
    assert np.isfinite(plain).all()


def test_one_family_is_too_few(heads: list[HeadModel], tmp_path: Path) -> None:
    with pytest.raises(HeadModelError, match="expected two head families"):
        list(train_source_expression(ExpressionTraining(persons=10), heads[:1], tmp_path / "net.safetensors"))

"""The main job on a head family that was added from outside: the same code path, whatever the topology and the units."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

import omote
from omote.api import AvatarSettings
from omote.asset.glb_read import read_avatar
from omote.head.correspondence import with_units_of
from omote.head.expressions import ARKIT_INDEX
from omote.head.ict import ict_head
from omote.head.model import PARTS, HeadModel
from omote.head.shipped import shipped_head
from omote.pipelines.result import AvatarOutputs
from omote.types import Mesh


def bald_family() -> HeadModel:
    """A head family: vertices in another order, ten modes of identity, no inside of the mouth and no expression units."""
    known = shipped_head()
    order = np.random.default_rng(0).permutation(known.num_vertices)
    place, kept = np.argsort(order), known.face_part <= PARTS.index("eye_right")
    return HeadModel(
        name="bald",
        template_mm=known.template_mm[order],
        faces=place[known.faces[kept]],
        uv=known.uv,
        faces_uv=known.faces_uv[kept],
        face_part=known.face_part[kept],
        identity_mm=known.identity_mm[:10, order],
        expression_mm=np.zeros_like(known.expression_mm),
        landmark_vertices=place[known.landmark_vertices],
        landmark_weights=known.landmark_weights,
    )


def test_a_head_family_from_outside_makes_an_avatar(tmp_path: Path) -> None:
    known = shipped_head()
    person = known.vertices(np.array([1.0, -0.5, 0.5]))
    settings = AvatarSettings(
        expressions=("happy",), head=bald_family(), landmarks=known.landmarks(person).astype(float), unit="mm"
    )
    result = omote.avatar(Mesh(vertices=person, faces=known.faces), settings)
    outputs = AvatarOutputs(glb=tmp_path / "bald.glb", vrm=tmp_path / "bald.vrm", report=tmp_path / "bald.json")
    result.save_all(outputs.checked())
    assert (
        json.loads((tmp_path / "bald.json").read_text())["output/vrm_bytes"] == (tmp_path / "bald.vrm").stat().st_size
    )
    assert [p.name for p in read_avatar(tmp_path / "bald.vrm").primitives] == ["skin", "eyes"]
    assert result.facts["avatar/surroundings"] == "none"
    file = read_avatar(tmp_path / "bald.glb")
    assert [p.name for p in file.primitives] == ["skin", "eyes"]
    assert file.target_names[0] == "happy"
    assert result.facts["fit/median_mm"] < 0.5
    assert result.facts["settings/head"] == result.avatar.neutral.model_name == "bald"
    # The editor was shown this head's motion, and it came back: the corners of the mouth go up and apart.
    before, after = (result.head.landmarks(result.mesh(name).vertices) for name in (None, "happy"))
    assert np.ptp(after[[48, 54], 0]) > np.ptp(before[[48, 54], 0]) + 2
    assert (after[[48, 54], 1] > before[[48, 54], 1] + 1).all()


def test_units_come_through_correspondence() -> None:
    known, bald = shipped_head(), with_units_of(bald_family(), shipped_head())
    order = np.random.default_rng(0).permutation(known.num_vertices)
    used = bald.part_vertices("skin", "eye_left", "eye_right")
    error = np.linalg.norm(bald.expression_mm - known.expression_mm[:, order], axis=2)[:, used]
    assert error.mean() < 0.01
    assert error.max() < 2
    assert bald.has_units
    assert not bald_family().has_units


def test_another_models_units_are_near_its_own(shared_dir: Path) -> None:
    own = ict_head(shared_dir / "data/ict_facekit.npz")
    given = with_units_of(replace(own, expression_mm=np.zeros_like(own.expression_mm)), shipped_head())
    for name, alike in (("jawOpen", 0.9), ("mouthSmileLeft", 0.85), ("eyeBlinkRight", 0.6), ("browDownLeft", 0.6)):
        a, b = given.expression_mm[ARKIT_INDEX[name]], own.expression_mm[ARKIT_INDEX[name]]
        assert np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) > alike

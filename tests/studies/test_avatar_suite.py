"""The avatars' suite: measured of a person and of a folder of meshes, summed up by capture and head family, and on a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from omote.errors import ConfigError
from omote.evaluation.records import PersonRecords, Record, Row, value_of
from omote.head.expressions import CATEGORIES, arkit_weights
from omote.head.shipped import shipped_head
from omote.progress import finish
from omote.studies import avatar_methods
from omote.studies.avatar_methods import NUM_POINTS, scan_of, shown_by, summed
from omote.studies.avatars import AvatarSuite
from omote.studies.base import ModelStudy, run_study
from omote.types import Mesh, PointCloud, Rgbd
from stand_ins import JUDGES, CopyingEditor, use_small_persons

HEAD = shipped_head()


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_persons(monkeypatch)
    monkeypatch.setattr(ModelStudy, "model", lambda self: CopyingEditor())
    monkeypatch.setattr(avatar_methods, "load_expression_judges", lambda: JUDGES.expression)


def write_obj(path: Path, vertices: np.ndarray) -> None:
    lines = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in HEAD.faces + 1]
    path.write_text("\n".join(lines))


@pytest.mark.usefixtures("stand_ins")
def test_a_person_is_measured_and_kept(tmp_path: Path) -> None:
    suite = AvatarSuite(persons=1, captures=("mesh",), stressed=0)
    numbers = finish(run_study(suite, tmp_path))
    at = "asked=weights/capture=mesh"
    # Persons of the avatar's own family move by these very units.
    assert numbers[f"avatar/surface_mm_moving/head_edit_plain/{at}"] < 0.2
    assert numbers[f"avatar/surface_mm_moving/rest/{at}"] > 1
    assert numbers[f"avatar/motion_cosine/head_edit_plain/{at}"] > 0.98
    assert numbers["avatar/teeth_rest_mm2/model/capture=mesh"] < 2
    assert numbers["refused/share/model/capture=mesh"] == 0
    assert "Anatomy" in (tmp_path / "report.html").read_text()
    kept = (tmp_path / "avatars/000000_mesh.json").stat().st_mtime_ns
    written = (tmp_path / "metrics.json").read_text()
    finish(run_study(suite, tmp_path))
    assert (tmp_path / "metrics.json").read_text() == written
    assert (tmp_path / "avatars/000000_mesh.json").stat().st_mtime_ns == kept


@pytest.mark.usefixtures("stand_ins")
def test_a_folder_of_meshes_is_measured_against_its_own_expressions(tmp_path: Path) -> None:
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    rest = HEAD.vertices(np.random.default_rng(3).normal(0, 0.5, HEAD.num_identity))
    write_obj(meshes / "neutral.obj", rest)
    write_obj(meshes / "grin.obj", HEAD.moved(rest, arkit_weights({"mouthSmile": 0.6, "jawOpen": 0.2})))
    numbers = finish(run_study(AvatarSuite(meshes=meshes), tmp_path / "out"))
    edited, rested = (
        numbers[f"avatar/vertex_mm_moving/{row}/asked=weights/expression=grin"] for row in ("head_edit_plain", "rest")
    )
    assert edited < 0.7 * rested
    assert json.loads((tmp_path / "out/metrics.json").read_text())


def test_a_folder_without_a_rest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grin.obj").write_text("v 0 0 0")
    with pytest.raises(ConfigError, match="neutral"):
        AvatarSuite(meshes=tmp_path).check()


def test_captures_are_what_they_are_called() -> None:
    person = avatar_methods.draw_person(AvatarSuite().unseen(), 0, [HEAD])
    assert isinstance(scan_of(person, HEAD, "mesh", None), Mesh)
    points = scan_of(person, HEAD, "points", None)
    assert isinstance(points, PointCloud)
    assert points.points.shape == (NUM_POINTS, 3)
    frame = scan_of(person, HEAD, "frame", None)
    assert isinstance(frame, Rgbd)
    assert 0.2 < frame.mask.mean() < 0.8
    shown = shown_by(person, "expressive")
    assert shown is not None
    assert shown.max() > 0.3
    assert shown_by(person, "mesh") is None


def test_persons_without_a_face_found_are_counted_and_left_out() -> None:
    def person(head: str, error: float | None) -> PersonRecords:
        record = (
            Record(row=Row("model"), measure="refused/share", values=np.ones(1))
            if error is None
            else Record(row=Row("model").under(asked="weights"), measure="avatar/surface_mm", values=np.full(7, error))
        )
        return PersonRecords(
            parts={"head": head}, category=tuple(range(len(CATEGORIES))), intensity=(1.0,) * 7, records=(record,)
        )

    table = summed([person("omote", 0.1), person("ict", 0.3), person("ict", None)], capture="mesh")
    model = Row("model").under(asked="weights")
    assert value_of(table[model.under(capture="mesh")]["avatar/surface_mm"]) == pytest.approx(0.2)
    assert value_of(table[model.under(head="ict", capture="mesh")]["avatar/surface_mm"]) == pytest.approx(0.3)
    assert value_of(table[Row("model").under(capture="mesh")]["refused/share"]) == pytest.approx(1 / 3)

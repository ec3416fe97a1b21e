"""The study of several frames: pose errors up to a common motion, parts of a head, and a run of one person."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from omote.cli.main import main
from omote.completion.aligned import lacks_depth
from omote.errors import ConfigError
from omote.evaluation.turns import head_parts, pose_errors
from omote.head.shipped import shipped_head
from omote.studies.frames import Frames, summarised


def motion(rotvec: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = Rotation.from_rotvec(rotvec).as_matrix(), shift
    return out


def test_poses_are_compared_up_to_a_motion_of_all() -> None:
    true = {str(n): motion((0.1 * n, 0.5, 0), (10.0 * n, 0, 600)) for n in range(4)}
    gauge = motion((0.2, -0.1, 0.3), (5, 6, 7))
    found = {name: gauge @ np.linalg.inv(pose) for name, pose in true.items()}
    exact = pose_errors(found, true)
    np.testing.assert_allclose(exact.degrees, 0, atol=1e-5)
    np.testing.assert_allclose(exact.mm, 0, atol=1e-9)
    np.testing.assert_allclose(exact.canonical_from_world, gauge, atol=1e-9)
    found["2"] = motion((0, 0, 0), (4, 0, 0)) @ found["2"]
    moved = pose_errors(found, true)
    np.testing.assert_allclose(moved.mm, [1, 1, 3, 1], atol=1e-9)


def test_parts_of_a_head() -> None:
    head = shipped_head()
    parts, template = head_parts(head), head.template_mm
    assert np.abs(template[parts["ears"], 0]).min() > 50
    assert np.abs(template[parts["profile"], 0]).max() < 5
    assert np.ptp(template[parts["profile"], 1]) > 180  # crown to throat
    assert not (parts["ears"] & parts["face"]).any()


def case(ears: float) -> dict[str, dict[str, float]]:
    return {"avatar": {"turn/ears_mm": ears}}


def test_more_frames_are_tested_against_fewer() -> None:
    persons = [
        {"head": "omote", "cases": {"1_found": case(2 + 0.01 * n), "3_found": case(1.0), "3_given": case(0.9)}}
        for n in range(12)
    ]
    persons[0]["cases"]["3_found"] = {}
    table, notes = summarised(persons, (1, 3))
    found = {str(row): row for row in table}
    assert set(found) == {"avatar/frames=1", "avatar/frames=3/poses=found", "avatar/frames=3/poses=given"}
    assert table[found["avatar/frames=3/poses=found"]]["turn/refused"] == pytest.approx(1 / 12)
    assert notes[found["avatar/frames=3/poses=found"]]["p_ears_vs_fewer"] < 0.01
    assert found["avatar/frames=1"] not in notes


def test_one_person_is_measured_and_its_avatar_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = []

    def noted(*arguments: object) -> bool:
        lacking.append(lacks_depth(*arguments))  # type: ignore[arg-type]
        return lacking[-1]

    monkeypatch.setattr("omote.completion.aligned.lacks_depth", noted)
    assert main(["study", "frames", "--out", str(tmp_path), "--tiny"]) == 0
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    three = "frames=3/poses=found"
    assert numbers[f"turn/posed_within/poses/{three}"] == 1
    assert numbers[f"turn/ears_mm/scan/{three}"] < numbers["turn/ears_mm/scan/frames=1"] - 5
    assert numbers[f"turn/head_mm/avatar/{three}"] < numbers["turn/head_mm/avatar/frames=1"]
    assert numbers[f"turn/face_mm/avatar/{three}"] < 0.6
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {row["row"] for row in rows} == {"scan", "avatar", "poses"}
    assert (tmp_path / "examples/000000.png").is_file()
    assert lacking == [True, True]


@pytest.mark.parametrize(
    "wrong", [{"frames": ()}, {"frames": (3, 1)}, {"frames": (0,)}, {"frames": (99,)}, {"poses": ()}]
)
def test_settings_that_cannot_be_measured_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Frames(**wrong).check()  # type: ignore[arg-type]

"""``omote fuse`` and a folder of frames as a scan: one mesh of them, and one line for what cannot be fused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import omote
from omote.api.scans import reading
from omote.cli.main import main
from omote.datasets.population import PopulationConfig, draw_person
from omote.datasets.turns import rendered_turn
from omote.errors import ScanError
from omote.formats.frame_write import save_rgbd
from omote.head.shipped import shipped_head
from omote.progress import finish
from omote.rendering.sensor import time_of_flight
from omote.types import Mesh


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of a person, 50 degrees apart, and one that is damaged."""
    path, head = tmp_path_factory.mktemp("turn"), shipped_head()
    person = draw_person(PopulationConfig(split="test", num_images=1), 5, [head])
    rng = np.random.default_rng(0)
    turn = rendered_turn(person, [head], (-25.0, 25.0), sensor=time_of_flight(), rng=rng, size=160)
    for name, frame in turn.frames.items():
        save_rgbd(frame, path / name)
    save_rgbd(frame, path / "frame_99")
    (path / "frame_99/depth.png").unlink()
    return path


def test_frames_become_a_scan_that_commands_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "scan.ply", tmp_path / "scan.json"
    assert main(["fuse", str(folder), "--out", str(out), "--report", str(report), "--voxel-mm", "3"]) == 0
    told = capsys.readouterr()
    assert "2 of 3 frames" in told.out
    assert "frame_99 is left out" in told.err
    facts = json.loads(report.read_text())
    assert (facts["scan/num_frames"], facts["scan/num_frames_found"], facts["scan/poses"]) == (2, 3, "found")
    mesh = omote.read(out)
    assert isinstance(mesh, Mesh)
    assert len(mesh.vertices) == facts["scan/num_points"]
    assert np.ptp(mesh.vertices[:, 0]) > 110  # mm: a head's width


def test_a_folder_of_frames_is_a_scan(folder: Path) -> None:
    scan, facts = finish(reading(folder))
    assert isinstance(scan, Mesh)
    assert facts["scan/format"] == "frames"
    assert "time_s/read_pose" in facts


@pytest.mark.parametrize("command", ["fuse", "avatar"])
def test_what_cannot_be_fused_is_one_line(
    command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / {"fuse": "scan.ply", "avatar": "a.glb"}[command]
    empty = tmp_path / "empty"
    empty.mkdir()
    for scan in (empty, tmp_path / "nowhere", folder / "frame_99"):
        assert main([command, str(scan), "--out", str(out)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()
    assert main(["fuse", str(folder), "--out", str(tmp_path / "scan.xyz")]) == 2
    assert ".ply" in capsys.readouterr().err


def test_frames_farther_than_the_limit_are_refused(folder: Path) -> None:
    with pytest.raises(ScanError, match="max depth"):
        omote.fuse(folder, omote.FuseSettings(max_depth_mm=100.0))

"""A short slice of ``make fuzz``: every reader, every kind of damage, of hostile input and of side file."""

from __future__ import annotations

from pathlib import Path

import pytest

import hostile
import run
import side_files

CASES_EACH = 8


@pytest.fixture(scope="module")
def cases() -> run.Cases:
    return run.Cases()


def problems(cases: run.Cases, folder: Path, kind: str, numbers: range) -> list[str]:
    found = []
    for number in numbers:
        own = folder / str(number)
        own.mkdir()
        outcome = run.read_case(*cases.write(number, own, kind))
        if outcome.ending not in ("read", "refused"):
            found.append(f"{kind} {number}: {outcome.ending}")
    return found


KINDS = "ply obj glb gltf stl off pcd xyz npz wrl table frame zip landmarks r3d meshopt draco usdz"


@pytest.mark.parametrize("kind", KINDS.split())
def test_damaged_scans_end_in_a_scan_or_in_one_line(cases: run.Cases, tmp_path: Path, kind: str) -> None:
    if kind not in cases.seeds:
        pytest.skip(f"what writes {kind} is not installed: needs the libraries of 'omote[formats]'")
    number = CASES_EACH if kind not in run.RARE else 3
    assert problems(cases, tmp_path, kind, range(number)) == []


@pytest.mark.parametrize("kind", list(side_files.KINDS))
def test_damaged_side_files_end_in_one_line(cases: run.Cases, tmp_path: Path, kind: str) -> None:
    number = CASES_EACH if run.SIDE + kind not in run.RARE else 4
    assert problems(cases, tmp_path, run.SIDE + kind, range(number)) == []


@pytest.mark.parametrize("kind", list(hostile.KINDS))
def test_hostile_scans_cost_no_more_than_the_documented_bounds(cases: run.Cases, tmp_path: Path, kind: str) -> None:
    assert problems(cases, tmp_path, kind, range(2)) == []


def test_a_failure_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job itself can fail: an exception, a long message, time, memory."""
    path = tmp_path / "a.obj"
    path.write_bytes(b"v 0 0 0\n")
    assert run.read_case("obj", path).ending == "read"
    monkeypatch.setattr(run, "MEGABYTES", 1.0)
    assert "MB" in run.read_case("obj", path).ending
    monkeypatch.setattr("omote.formats.obj.read_obj", lambda source: 1 / 0)
    assert run.read_case("obj", path).ending.startswith("ZeroDivisionError")

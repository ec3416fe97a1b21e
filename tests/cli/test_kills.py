"""Exports that are killed or whose disk is full, in short; `make kills` does the same with whole commands."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from kills import Job, command, digests, loop_over, survive_full_disks, survive_kills, undisturbed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture
def export(cloud: Path, pipeline: list[dict[str, Any]]) -> Job:
    outputs = digests("*.glb", "*.png", "*.json", without="^time_s|memory")
    arguments = ("avatar", str(cloud), "--out", "{}/a.glb", "--sheet", "{}/a.png", "--report", "{}/a.json")
    return Job(run=command(*arguments), outputs=outputs, before=("a.glb", "a.png"))


def test_an_export_that_is_killed_leaves_what_was_there_or_all_of_it(export: Job, tmp_path: Path) -> None:
    whole, seconds = undisturbed(export, tmp_path / "jobs/whole")
    assert set(whole) == {"a.glb", "a.png", "a.json"}
    assert len(survive_kills(export, tmp_path / "jobs/killed", whole, seconds, 10, random.Random(0))) == 10


def test_avatars_one_after_the_other_go_on_after_a_kill(
    cloud: Path, pipeline: list[dict[str, Any]], tmp_path: Path
) -> None:
    scans = [cloud.with_name(f"{name}.xyz") for name in "abc"]
    for scan in scans:
        scan.write_bytes(cloud.read_bytes())
    batch = Job(run=loop_over(scans), outputs=digests("*.glb"))
    whole, seconds = undisturbed(batch, tmp_path / "jobs/whole")
    assert set(whole) == {"a.glb", "b.glb", "c.glb"}
    survive_kills(batch, tmp_path / "jobs/killed", whole, seconds, 3, random.Random(0))


def test_a_disk_of_any_size_holds_all_or_what_was_there(export: Job, tmp_path: Path) -> None:
    whole, _ = undisturbed(export, tmp_path / "jobs/whole")
    sizes = [4096 * pages for pages in (3, 4, 5, 6, 8, 16)]
    too_small = survive_full_disks(export, tmp_path / "jobs/disk", whole, sizes)
    if too_small is None:
        pytest.skip("this machine does not allow mounting")
    assert 1 <= too_small < len(sizes)

"""Real scans: what is measured of images that are known, what a fit that is known is off by, and what is kept and skipped."""

from __future__ import annotations

import csv
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kills import Job, digests, survive_kills, undisturbed
from omote.align.align import Alignment
from omote.errors import AlignmentError, ConfigError
from omote.evaluation.records import PersonRecords, Record, Row, value_of
from omote.formats.read import PLAIN, ReadReport
from omote.geometry.camera import orbit_camera
from omote.head.expressions import CATEGORIES
from omote.head.fit import Fit
from omote.head.shipped import shipped_head
from omote.progress import NOTE, Step, finish
from omote.studies import real_scans as scans
from omote.studies.base import run_study
from omote.studies.real_scans import FIT, fit_errors, measure, person_of, summarise_scans
from omote.studies.suites import ScanSuite, WithNetworks, scan_names
from omote.types import Mesh, Rgbd
from stand_ins import JUDGES, use_stand_ins

LANDMARKS = np.random.default_rng(0).uniform(20, 44, (68, 2))


@pytest.fixture
def source() -> Rgbd:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    mask = x**2 + y**2 < 0.5
    rgb = np.where(mask[..., None], np.random.default_rng(1).random((64, 64, 3)), 0.5)
    return Rgbd(
        rgb=rgb.astype(np.float32),
        depth_mm=np.where(mask, 700 + 30 * (x**2 + y**2), 0).astype(np.float32),
        mask=mask,
        camera=orbit_camera(size=64),
    )


def lowered(image: Rgbd, rows: slice, by_mm: float) -> Rgbd:
    depth = image.depth_mm.copy()
    depth[rows] += by_mm * image.mask[rows]
    return replace(image, depth_mm=depth)


def rows(source: Rgbd) -> dict[Row, list[Rgbd]]:
    """The head model moves the lower half; one row does the same, and one moves all, also at rest."""
    half = [source, *[lowered(source, slice(32, None), 5.0)] * 6]
    shown = {
        "copy_source": [source] * 7,
        "head_edit": half,
        "model": half,
        "model_token": [lowered(source, slice(None), 2.0)] * 7,
    }
    return {Row(name): images for name, images in shown.items()}


def measured(source: Rgbd, p90: float = 1.0) -> PersonRecords:
    fits = [
        Record(row=Row(name), measure=metric.key, values=np.array([p90]))
        for name in ("linear", "refined")
        for metric in FIT
    ]
    return person_of([*fits, *measure(rows(source), source, LANDMARKS, JUDGES)])


def test_only_what_nothing_moves_counts_as_still_and_only_neutral_as_rest(source: Rgbd) -> None:
    found = measured(source)
    for name, moved in (("model", 0.0), ("model_token", 2.0)):
        assert found.find(Row(name), "depth/mae_mm_rest") == pytest.approx([moved], abs=1e-4)
        assert found.find(Row(name), "depth/mae_mm_unmoved")[1:] == pytest.approx([moved] * 6, abs=1e-4)
    copy = Row("copy_source")
    assert found.find(copy, "identity_to_source/faceapi").tolist() == [0.0] * 7
    # A judge sees the same seven times, which can be right once.
    cells = summarise_scans({"a": found})[copy]
    assert value_of(cells["expression/top1_both"]) == pytest.approx(1 / 7)
    assert found.find(copy, "expression/asked_both").sum() == pytest.approx(1)


def test_scans_are_summed_up_each_and_together(source: Rgbd) -> None:
    other = replace(source, rgb=source.rgb[::-1].copy())
    first, second = measured(source), measured(other, p90=3.0)
    found = summarise_scans({"a": first, "b": second})
    refined, key = Row("refined"), "fit/scan_to_surface_p90_mm"
    fits = [value_of(found[row][key]) for row in (refined.under(scan="a"), refined.under(scan="b"), refined)]
    assert fits == [1.0, 3.0, 2.0]
    assert value_of(found[Row("model_token")]["depth/mae_mm_rest"]) == pytest.approx(2.0, abs=1e-4)
    assert value_of(found[Row()]["identity_apart/faceapi"]) > 0
    assert Row() not in summarise_scans({"a": first})


def test_a_head_that_is_off_by_a_millimetre_is_off_by_that_both_ways() -> None:
    head = shipped_head()
    rest = head.vertices(np.zeros(head.num_identity), np.zeros(52))
    every = np.ones(head.num_vertices, bool)
    alignment, fit = object.__new__(Alignment), object.__new__(Fit)
    object.__setattr__(fit, "vertices_mm", rest + np.array([0.0, 0.0, 1.0]))
    known = {"scan": Mesh(vertices=rest, faces=head.faces), "inferred": ~every, "on_face": every, "vertices_mm": rest}
    for name, value in (known | {"fit": fit}).items():
        object.__setattr__(alignment, name, value)
    found = {(record.row.name, record.measure): record.values[0] for record in fit_errors(head, alignment)}
    for way in ("scan_to_surface", "surface_to_scan"):
        assert found["refined", f"fit/{way}_median_mm"] == pytest.approx(0.0, abs=1e-4)
        assert 0.4 < found["linear", f"fit/{way}_median_mm"] <= 1.0


@pytest.fixture
def suite(source: Rgbd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScanSuite:
    use_stand_ins(monkeypatch)

    def made(path: Path, *_: Any) -> tuple[dict[Row, list[Rgbd]], PersonRecords]:
        if path.stem == "nobody":
            raise AlignmentError("no face found; give --landmarks")
        return rows(source), measured(source)

    def opened(path: Path) -> tuple[Path, ReadReport]:
        return path, ReadReport(format="ply", kind="mesh", num_points=600, notes=(PLAIN,) if path.stem == "b" else ())

    monkeypatch.setattr(scans, "measured", made)
    monkeypatch.setattr(scans, "read_with_report", opened)
    monkeypatch.setattr(WithNetworks, "model", lambda self: None)
    monkeypatch.setattr(WithNetworks, "networks", lambda self: {})
    return ScanSuite(scans=(tmp_path / "a.ply", tmp_path / "nobody.ply", tmp_path / "b.obj"))


def test_what_cannot_be_measured_is_counted_and_a_killed_run_resumes(suite: ScanSuite, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps: list[Step] = []
    finish(run_study(suite, whole), steps.append)
    assert [step.note for step in steps if step.stage == NOTE] == [f"b: {PLAIN}"]
    work = run_study(suite, killed)
    assert [next(work).note for _ in range(3)] == ["", "a", "nobody"]
    work.close()
    assert not (killed / "metrics.json").exists()
    first = (killed / "scans/a.json").stat().st_mtime_ns
    finish(run_study(suite, killed))
    assert (killed / "scans/a.json").stat().st_mtime_ns == first
    for name in ("metrics.json", "table.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    numbers = json.loads((whole / "metrics.json").read_text())
    assert (numbers["count/scans"], numbers["count/skipped"]) == (2, 1)
    lines = list(csv.DictReader((whole / "table.csv").open()))
    assert {(line["row"], line["scan"]) for line in lines} == {
        (row, scan)
        for row in ("copy_source", "head_edit", "model", "model_token", "linear", "refined")
        for scan in ("", "a", "b")
    }
    page = (whole / "report.html").read_text()
    assert "no face found" in page
    assert page.count("data:image/png") == 2
    assert all(category in page for category in CATEGORIES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_kills_leave_the_same_numbers(suite: ScanSuite, tmp_path: Path) -> None:
    def run(folder: Path) -> int:
        finish(run_study(suite, folder / "out"))
        return 0

    job = Job(run=run, outputs=digests("out/metrics.json", "out/table.csv", "out/scans/*.json"))
    whole, seconds = undisturbed(job, tmp_path / "jobs/whole")
    assert len(whole) == 4
    # `make kills` kills a study and an evaluation ten times.
    survive_kills(job, tmp_path / "jobs/killed", whole, seconds, 4, random.Random(0))


def test_no_scans_two_of_one_name_and_none_with_a_face_are_refused(suite: ScanSuite, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --scans"):
        scan_names(())
    with pytest.raises(ConfigError, match="got a twice"):
        scan_names((Path("x/a.ply"), Path("y/a.obj")))
    with pytest.raises(ConfigError, match="none of 1 could be measured; the first: no face found"):
        finish(run_study(replace(suite, scans=(tmp_path / "nobody.ply",)), tmp_path / "none"))

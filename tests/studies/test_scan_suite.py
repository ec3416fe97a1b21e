"""Real scans: what is measured of images that are known, what a fit that is known is off by, and what is kept and skipped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omote.align.align import Alignment
from omote.errors import AlignmentError, ConfigError
from omote.evaluation.measure import Judges
from omote.geometry.camera import orbit_camera
from omote.head.expressions import CATEGORIES
from omote.head.fit import Fit
from omote.head.shipped import shipped_head
from omote.rgbd.model import EditingModel
from omote.studies import real_scans as scans
from omote.studies.real_scans import ScanSuite, evaluate_scans, fit_errors, measure, summarise_scans
from omote.studies.real_scans_page import write_scan_report
from omote.types import Mesh, Rgbd
from stand_ins import Colours, Pooled

JUDGES = Judges(expression=object.__new__(Colours), identity=object.__new__(Pooled))
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


def rows(source: Rgbd) -> dict[str, list[Rgbd]]:
    """The head model moves the lower half; one row does the same, and one moves all, also at rest."""
    half = [source, *[lowered(source, slice(32, None), 5.0)] * 6]
    return {
        "copy_source": [source] * 7,
        "head_edit": half,
        "model": half,
        "model_token": [lowered(source, slice(None), 2.0)] * 7,
    }


def test_only_what_nothing_moves_counts_as_still_and_only_neutral_as_rest(source: Rgbd) -> None:
    found = measure(rows(source), source, LANDMARKS, JUDGES)
    np.testing.assert_allclose([found["rest/model"], found["rest/model_token"]], [[0.0], [2.0]], atol=1e-4)
    np.testing.assert_allclose(found["still/model"], [0.0] * 6, atol=1e-6)
    np.testing.assert_allclose(found["still/model_token"], [2.0] * 6, atol=1e-4)
    assert found["identity/copy_source"] == [0.0] * 6
    # A judge sees the same seven times, which can be right once.
    assert sum(found["hit_both/copy_source"]) == 1
    assert sum(found["asked_both/copy_source"]) == pytest.approx(1)


def test_scans_are_summed_up_each_and_together(source: Rgbd) -> None:
    first = {"fit": {"p90": 1.0}, **measure(rows(source), source, LANDMARKS, JUDGES)}
    other = replace(source, rgb=source.rgb[::-1].copy())
    second = {"fit": {"p90": 3.0}, **measure(rows(other), other, LANDMARKS, JUDGES)}
    found = summarise_scans({"a": first, "b": second})
    assert found["count/scans"] == 2
    assert (found["fit/p90_a"], found["fit/p90_b"], found["fit/p90"]) == (1.0, 3.0, 2.0)
    assert found["depth/mae_mm_rest/model_token"] == pytest.approx(2.0, abs=1e-4)
    assert found["identity/faceapi/other_scans"] > 0
    assert "identity/faceapi/other_scans" not in summarise_scans({"a": first})


def test_a_head_that_is_off_by_a_millimetre_is_off_by_that_both_ways() -> None:
    head = shipped_head()
    rest = head.vertices(np.zeros(head.num_identity), np.zeros(52))
    every = np.ones(head.num_vertices, bool)
    alignment, fit = object.__new__(Alignment), object.__new__(Fit)
    object.__setattr__(fit, "vertices_mm", rest + np.array([0.0, 0.0, 1.0]))
    known = {"scan": Mesh(vertices=rest, faces=head.faces), "inferred": ~every, "on_face": every, "vertices_mm": rest}
    for name, value in (known | {"fit": fit}).items():
        object.__setattr__(alignment, name, value)
    found = fit_errors(head, alignment)
    for way in ("scan_to_surface", "surface_to_scan"):
        assert found[f"{way}_median_mm_refined"] == pytest.approx(0.0, abs=1e-4)
        assert 0.4 < found[f"{way}_median_mm_linear"] <= 1.0


class Nothing(EditingModel):
    """In the place of the networks, which nobody asks."""

    def __init__(self) -> None:
        pass


@pytest.fixture
def suite(source: Rgbd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScanSuite:
    monkeypatch.setattr(scans, "load_expression_judges", lambda: object.__new__(Colours))
    monkeypatch.setattr(scans, "load_identity_judge", lambda: object.__new__(Pooled))

    def measured(path: Path, model: Any, networks: Any, settings: Any, head: Any, judges: Judges, picture: Path) -> Any:
        if path.stem == "nobody":
            raise AlignmentError("no face found; give --landmarks")
        scans.save_strips(picture, rows(source))
        fit = {
            f"{way}_{kind}_mm_{name}": 1.0
            for way in ("scan_to_surface", "surface_to_scan")
            for kind in ("median", "p90")
            for name in ("linear", "refined")
        }
        return {"fit": fit, **measure(rows(source), source, LANDMARKS, judges)}

    monkeypatch.setattr(scans, "_measured", measured)
    return ScanSuite(scans=(tmp_path / "a.ply", tmp_path / "nobody.ply", tmp_path / "b.obj"))


def test_what_cannot_be_measured_is_counted_and_a_killed_run_goes_on(suite: ScanSuite, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    list(evaluate_scans(Nothing(), suite, whole))
    work = evaluate_scans(Nothing(), suite, killed)
    next(work)
    work.close()
    assert not (killed / "metrics.json").exists()
    first = (killed / "scans/a.json").stat().st_mtime_ns
    list(evaluate_scans(Nothing(), suite, killed))
    assert (killed / "scans/a.json").stat().st_mtime_ns == first
    assert (killed / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    numbers = json.loads((whole / "metrics.json").read_text())
    assert (numbers["count/scans"], numbers["count/skipped"]) == (2, 1)
    lines = (whole / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 4  # each scan and all of them, four rows
    write_scan_report(whole, numbers, {"run/suite": "scans"})
    page = (whole / "report.html").read_text()
    assert "no face found" in page
    assert page.count("data:image/png") == 2
    assert all(category in page for category in CATEGORIES)


def test_no_scans_two_of_one_name_and_none_with_a_face_are_refused(suite: ScanSuite, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --scans"):
        ScanSuite(scans=()).names()
    with pytest.raises(ConfigError, match="got a twice"):
        ScanSuite(scans=(Path("x/a.ply"), Path("y/a.obj"))).names()
    with pytest.raises(ConfigError, match="none of 1 could be measured; the first: no face found"):
        list(evaluate_scans(Nothing(), replace(suite, scans=(tmp_path / "nobody.ply",)), tmp_path / "none"))

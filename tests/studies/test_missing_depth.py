"""The study of missing depth: baselines on a head that is known, errors that tell seen from missing, and a run of one person."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.cli.main import main
from omote.completion.base import PartialScan
from omote.completion.baselines import HeadFit, NearestFill, Nothing, Restoration
from omote.completion.coarse_head import coarse_head
from omote.completion.missing import missing_case, subject_of
from omote.datasets.population import PopulationConfig, draw_person
from omote.errors import ConfigError
from omote.evaluation.completed import calibration, in_both, missing_from
from omote.evaluation.records import Row
from omote.geometry.camera import orbit_camera
from omote.geometry.mesh import vertex_normals
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.progress import finish
from omote.studies import missing_depth_avatars, missing_depth_meter
from omote.studies.base import ModelStudy, run_study
from omote.studies.completion_methods import completions
from omote.studies.missing_depth import MissingDepth, of_avatars
from stand_ins import JUDGES, CopyingEditor

OUTSIDE_MM = 2.0


@pytest.fixture(scope="module")
def half_scan() -> PartialScan:
    """The left half of the mean head, 2 mm outside a fitted head that is the mean head."""
    head = shipped_head()
    template = head.template_mm.astype(np.float64)
    normals, outer = vertex_normals(template, head.faces), coarse_head(head).outer
    ids = outer[template[outer, 0] > 0]
    return PartialScan(
        points_mm=template[ids] + OUTSIDE_MM * normals[ids], normals=normals[ids], colors=None, fitted_mm=template
    )


def test_baselines_follow_what_was_seen(half_scan: PartialScan) -> None:
    head = shipped_head()
    face = head_region(head).face
    left, right = face & (half_scan.fitted_mm[:, 0] > 25), face & (half_scan.fitted_mm[:, 0] < -25)
    normals = vertex_normals(half_scan.fitted_mm, head.faces)
    moved = {}
    for kind in (Nothing, NearestFill, HeadFit, Restoration):
        whole = kind(head)(half_scan)
        assert whole.seen[left].mean() > 0.95
        assert whole.seen[right].mean() < 0.05
        assert np.isnan(whole.sigma_mm).all()
        along = ((whole.vertices_mm - half_scan.fitted_mm) * normals).sum(axis=1)
        moved[kind] = np.median(along[left]), np.median(along[right])
    assert moved[Nothing][0] == pytest.approx(OUTSIDE_MM, abs=0.2)
    assert np.isnan(moved[Nothing][1])
    assert moved[NearestFill][0] == pytest.approx(OUTSIDE_MM, abs=0.2)
    assert moved[NearestFill][1] == pytest.approx(-moved[NearestFill][0], abs=4.5)
    assert moved[HeadFit] == (0, 0)
    assert moved[Restoration][0] == pytest.approx(OUTSIDE_MM, abs=0.5)


def test_unknown_surface_has_no_depth(half_scan: PartialScan) -> None:
    head, camera = shipped_head(), orbit_camera(size=64)
    known, whole = Nothing(head)(half_scan).depth(head, camera), HeadFit(head)(half_scan).depth(head, camera)
    # The person's left is on the right of the image.
    assert known.mask[:, 34:].sum() > 0.8 * whole.mask[:, 34:].sum()
    assert known.mask[:, :28].sum() < 0.05 * whole.mask[:, :28].sum()


def test_errors_are_told_apart_by_what_the_scan_saw() -> None:
    true = np.stack([np.arange(100.0), np.zeros(100), np.zeros(100)], axis=1)
    missing = missing_from(true, true[:50])
    assert missing.sum() == 47  # those within 3 mm of the last point are seen
    seen, lost = in_both(np.where(missing, 50.0, -0.5), missing)
    assert seen == 0.5
    assert lost == 20.0
    assert np.isnan(in_both(np.full(100, np.nan), missing)).all()


def test_a_true_deviation_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.2, 3.0, 20_000)
    errors = sigma * rng.standard_normal(len(sigma))
    told = calibration(errors, sigma)
    assert told["within_1_sigma"] == pytest.approx(0.683, abs=0.02)
    assert told["within_2_sigma"] == pytest.approx(0.954, abs=0.01)
    assert told["decile_ratio"] > 3
    assert calibration(errors, sigma / 3)["within_1_sigma"] < 0.4
    assert calibration(errors, rng.permutation(sigma))["decile_ratio"] < 1.3


def test_networks_without_weights_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    assert list(completions(shipped_head(), tmp_path)) == ["nothing", "nearest", "head_fit", "restoration"]


def test_one_person_is_measured_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "missing-depth", "--out", str(tmp_path), "--tiny"]) == 0
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    at = "kind=mask/strength=strong"
    assert numbers[f"completion/surface_mm_seen/restoration/{at}"] < 1.5
    assert 0.3 < numbers[f"completion/missing_share/restoration/{at}"] < 1
    assert f"completion/depth_mm_missing/head_fit/{at}" in numbers
    assert f"completion/within_1_sigma/restoration/{at}" not in numbers
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {row["row"] for row in rows} == {"nothing", "nearest", "head_fit", "restoration"}
    assert len(list((tmp_path / "examples").glob("*.png"))) == 1
    kept = (tmp_path / "persons/000000.json").stat().st_mtime_ns
    finish(run_study(MissingDepth(**MissingDepth.TINY), tmp_path))
    assert (tmp_path / "persons/000000.json").stat().st_mtime_ns == kept


def test_avatars_of_partial_scans_are_measured_by_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelStudy, "model", lambda self: CopyingEditor())
    monkeypatch.setattr(missing_depth_avatars, "load_expression_judges", lambda: JUDGES.expression)
    monkeypatch.setattr(missing_depth_avatars, "load_identity_judge", lambda: JUDGES.identity)
    monkeypatch.setattr(
        missing_depth_meter,
        "completions",
        lambda head, _: {"restoration": Restoration(head), "head_fit": HeadFit(head), "nearest": NearestFill(head)},
    )
    by = ("restoration", "head_fit")
    study = MissingDepth(persons=1, kinds=("half",), strengths=("strong",), avatars=1, avatars_by=by)
    finish(run_study(study, tmp_path))
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    at = "kind=half/strength=strong"
    rest = {name: numbers[f"avatar/rest_mm/{name}/{at}"] for name in ("restoration", "head_fit")}
    assert rest["restoration"] < rest["head_fit"] < 4.0, "the refinement moved the half that was seen"
    assert 0 <= numbers[f"identity/faceapi/restoration/{at}"] < 2
    assert 0 <= numbers[f"expression/top1_both/truth/{at}"] <= 1
    assert numbers[f"refused/share/restoration/{at}"] == 0
    assert f"completion/surface_mm_seen/nearest/{at}" in numbers
    assert f"avatar/rest_mm/nearest/{at}" not in numbers


def test_avatars_are_averaged_and_tested_by_kind_and_over_all_kinds() -> None:
    def case(k: int, better: float) -> dict[str, dict[str, float]]:
        return {"restoration": {"avatar/rest_mm": k + 1.0}, "volume": {"avatar/rest_mm": k + 1.0 - better}}

    persons = [{"cases": {"half_strong": case(k, 0.5), "mask_strong": case(k, 0.1 * k)}} for k in range(8)]
    persons[0]["cases"]["mask_strong"] = {}
    table, notes = of_avatars(persons)
    both = {"strength": "strong"}
    half, mask = ({"kind": kind, **both} for kind in ("half", "mask"))
    assert table[Row("volume").under(**half)]["avatar/rest_mm"].value == pytest.approx(4.0)
    assert table[Row("volume").under(**mask)]["avatar/rest_mm"].value == pytest.approx(0.9 * 4.0 + 1.0)
    assert table[Row("volume").under(**mask)]["refused/share"] == 1 / 8
    assert table[Row("volume").under(**both)]["refused/share"] == 1 / 16
    # The first person's mean is over the only kind that was not refused.
    of_first, of_others = 0.5, [(k + 0.5 + 0.9 * k + 1.0) / 2 for k in range(1, 8)]
    assert table[Row("volume").under(**both)]["avatar/rest_mm"].value == pytest.approx(np.mean([of_first, *of_others]))
    assert notes[Row("volume").under(**half)]["p_rest_mm_vs_restoration"] < 0.02
    assert Row("restoration").under(**half) not in notes


@pytest.mark.parametrize("name", ["nothing", "graph"])
def test_avatars_by_an_unknown_completion_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"avatars_by: expected completions of nearest, .*, got {name}"):
        MissingDepth(avatars_by=("volume", name)).check()


def test_a_scan_that_is_refused_has_no_avatar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_depth_avatars, "load_expression_judges", lambda: JUDGES.expression)
    monkeypatch.setattr(missing_depth_avatars, "load_identity_judge", lambda: JUDGES.identity)
    head = shipped_head()
    person = draw_person(PopulationConfig(split="test", num_images=1), 0, [head])
    subject = subject_of(person, [head], [head])
    case = missing_case(subject, "half", "strong", head, seed=0)
    few = replace(case.partial, points_mm=case.partial.points_mm[:50], normals=case.partial.normals[:50], colors=None)
    meter = missing_depth_avatars.AvatarMeter(CopyingEditor(), [head], {"head_fit": HeadFit(head)})
    assert meter.measured(person, replace(case, partial=few)) == {}


def test_a_folder_without_networks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="networks: expected a folder with weights of any of volume, sparse"):
        MissingDepth(networks=tmp_path / "mistyped").check()


def test_an_empty_folder_of_scans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scans"):
        MissingDepth(scans=tmp_path).check()

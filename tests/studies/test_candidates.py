"""The suite of views to mesh and the study of the candidates: what they make of measurements."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.errors import CheckpointError, ConfigError
from omote.evaluation.records import PersonRecords, Record, Row
from omote.evaluation.surfaces import vertex_errors
from omote.multiview.model import ViewEditSettings
from omote.pipelines.settings import AvatarSettings
from omote.studies import candidate_rows, candidates
from omote.studies.base import run_study
from omote.studies.candidates import ONE, Candidates, against_copying
from omote.studies.views_to_mesh import RIDGE, ViewsToMeshSuite, summarised

pytestmark = pytest.mark.early


def test_sliding_counts_per_vertex_and_not_on_the_surface() -> None:
    y, x = np.mgrid[0:20.0, 0:20.0]
    flat = np.stack([x.ravel(), y.ravel(), np.zeros(400)], axis=1)
    corner = np.arange(400).reshape(20, 20)
    quads = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    faces = np.concatenate(
        [np.stack(quads[:3], -1).reshape(-1, 3), np.stack([quads[0], *quads[2:]], -1).reshape(-1, 3)]
    )
    region = ((flat[:, :2] > 4) & (flat[:, :2] < 15)).all(axis=1)
    slid = vertex_errors(flat + np.array([0.4, 0, 0]), flat, flat, faces, region)
    assert slid["mesh/vertex_mm"] == pytest.approx(0.4)
    assert slid["mesh/surface_mm"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(slid["mesh/vertex_mm_moving"]), "nothing moves"
    moved = vertex_errors(flat + np.array([0, 0, 3.0]), flat, flat - np.array([0, 0, 5.0]), faces, region)
    assert moved["mesh/surface_mm_moving"] == pytest.approx(3.0)


def test_the_suite_sets_families_apart_and_tests_against_ridge() -> None:
    def person(head: str, mine: float, ridge: float) -> dict:
        keys = ("mesh/vertex_mm", "mesh/vertex_mm_moving", "mesh/surface_mm", "mesh/surface_mm_moving")
        rows = {"to3d": dict.fromkeys(keys, mine), str(RIDGE): dict.fromkeys(keys, ridge)}
        return {"head": head, "seconds": {"to3d": 0.1}, "registered": rows}

    found = [person("omote", 0.8 + 0.01 * i, 1.2) for i in range(8)] + [person("ict", 1.0, 1.3)] * 8
    table, notes = summarised(found)
    own = Row("to3d").under(views="registered")
    assert table[own]["mesh/vertex_mm"].value == pytest.approx(np.mean([0.835, 1.0]))
    assert table[own.under(head="ict")]["mesh/vertex_mm"].value == pytest.approx(1.0)
    assert notes[own]["p_vertex_vs_ridge"] < 0.01
    assert table[own]["time_s/mesh"] == 0.1


def test_a_candidate_is_tested_against_copying_person_by_person() -> None:
    rows = {Row("copy_source"): 2.0, Row("multiview").under(asks="category"): 1.0}
    rng = np.random.default_rng(0)
    persons = [
        PersonRecords(
            parts={"head": "omote"},
            category=(0, 1, 2),
            intensity=(0.0, 1.0, 1.0),
            records=tuple(
                Record(
                    row=row,
                    measure="mesh/surface_mm_moving",
                    values=np.array([np.nan, level, level]) + rng.normal(0, 0.1),
                )
                for row, level in rows.items()
            ),
        )
        for _ in range(10)
    ]
    notes = against_copying(persons, {row: {} for row in rows})
    assert set(notes) == {Row("multiview").under(asks="category")}
    assert notes[Row("multiview").under(asks="category")]["p_surface_vs_copy"] < 0.01


def test_the_suite_needs_networks() -> None:
    with pytest.raises(TypeError):
        ViewsToMeshSuite()


def test_candidates_are_guided_as_in_their_avatars() -> None:
    own = ViewEditSettings().guidance_scale
    assert Candidates().guidance_scale == own
    assert AvatarSettings().guidance(own) == own
    assert AvatarSettings(guidance_scale=1.0).guidance(own) == 1.0
    assert f"1 for one\n            image and {own} for several views" in (AvatarSettings.__doc__ or ""), (
        "the help states it"
    )


def test_a_trial_of_the_table(candidate_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omote.evaluation.judges.weights import JudgeError
    from omote.studies.persons import load_judges

    try:
        load_judges()
    except JudgeError as error:
        pytest.skip(str(error))

    # A process per candidate imports everything anew (tests/studies/test_apart.py); here the peaks are this process's.
    def here(failure: str, function: Callable[..., float], *arguments: object) -> float:
        return function(*pickle.loads(pickle.dumps(arguments)))

    monkeypatch.setattr(candidate_rows, "apart", here)
    seven = Candidates.unseen
    monkeypatch.setattr(Candidates, "unseen", lambda self: replace(seven(self), num_images=3))
    study = Candidates(**{**Candidates.TINY, "persons": 1})
    steps = run_study(study, out := candidate_runs.parent)  # where the trial finds its networks trained
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        numbers = stop.value
    # Results of other networks are measured beside these, and these are not measured again.
    names = sorted(path.stem.removeprefix("000000_").split("-")[0] for path in (out / "persons").glob("*.json"))
    assert names == ["latent_views", "multiview", "reference", "rgbd", "rgbd_shipped"]
    for row in ("multiview/asks=category", "latent_views/asks=category", "rgbd_shipped/asks=category", "copy_source"):
        assert np.isfinite(numbers[f"mesh/surface_mm_moving/{row}"])
    # Candidate 3's shipped networks beat copying, and networks of seconds do not.
    moving = {row: numbers[f"mesh/surface_mm_moving/{row}"] for row in ("rgbd_shipped/asks=category", "copy_source")}
    assert moving["rgbd_shipped/asks=category"] < moving["copy_source"]
    assert numbers["model/parameters/multiview"] > 0
    assert numbers["memory_mb/peak/latent_views"] > 100
    assert numbers["diversity/mesh_mm/multiview/asks=category"] > 0
    assert numbers["mesh/vertex_mm_moving_best_of_2/rgbd_shipped/asks=category"] > 0
    # Views of colour alone have no depth to disagree in; true renders agree best.
    assert "views/disagreement_mm/multiview/asks=category" not in numbers
    assert numbers["views/disagreement_mm/ceiling"] < numbers["views/disagreement_mm/latent_views/asks=category"]
    assert numbers["views/color_disagreement/ceiling"] < 0.1
    assert len(list((out / "examples").glob("*.png"))) == 1
    assert (out / "figure.svg").is_file()


def test_a_candidate_3_that_reads_no_text_is_refused_before_measuring(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"rgbd: expected a text conditioner beside the editor in {tmp_path}"):
        Candidates(rgbd=tmp_path).check()
    Candidates(rgbd=tmp_path, words=False).check()
    (tmp_path / "export/text").mkdir(parents=True)
    (tmp_path / "export/text/config.json").write_text("{}")
    Candidates(rgbd=tmp_path).check()


def test_candidates_without_shipped_weights_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "SHIPPED_WEIGHTS", tmp_path)
    defaults = {"multiview": tmp_path / "rivals/candidate1", "latent_views": tmp_path / "rivals/candidate2"}
    with pytest.raises(CheckpointError, match="none ship; train them"):
        Candidates(**defaults).folders()
    given = Candidates(**{**defaults, "multiview": tmp_path / "mine"})
    assert given.folders() == {ONE: tmp_path / "mine"}, "what is given is never left out"

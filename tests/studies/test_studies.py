"""Studies of an editor with networks that copy and shift: what a condition changes, what is measured, and gone on with."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from omote.datasets.population import Person, PopulationConfig, draw_person
from omote.errors import AlignmentError, ConfigError
from omote.evaluation.ground_truth import GroundTruth, render_ground_truth
from omote.evaluation.records import PersonRecords, Record, Row
from omote.geometry.camera import FRONT_TARGET_MM, orbit_camera, project
from omote.head.expressions import ARKIT_INDEX, CATEGORIES
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads, shipped_head
from omote.progress import Steps, finish
from omote.rgbd.model import EditSettings
from omote.studies import measured_edits
from omote.studies.base import Results, Work, run_study
from omote.studies.camera import AXES, Cameras, seen_from
from omote.studies.conditions import Edit, StudyCondition, StudyOfEdits, at_intensity
from omote.studies.guidance import Guidance
from omote.studies.intensity import Intensity, correlations, displacements
from omote.studies.measured_edits import measure_conditions
from omote.studies.source_noise import SourceNoise, captured
from omote.studies.table import COPY, DEPTH, MODEL, OBTAINED, RATIO
from omote.types import Expression, Rgbd
from stand_ins import JUDGES, ShiftingEditor

MEAN_FACE = RestFace(head=shipped_head(), vertices_mm=shipped_head().template_mm, camera=orbit_camera(size=64))


class Shifting(ShiftingEditor):
    """Faces are found unless it is blind; the expressions that were asked for are kept."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.blind = blind
        self.wanted: list[list[Expression]] = []

    def face_of(self, source: Rgbd) -> RestFace:
        if self.blind:
            raise AlignmentError("no face")
        return MEAN_FACE

    @property
    def requests(self) -> list[tuple[list[Expression], EditSettings]]:
        return list(zip(self.wanted, self.asked, strict=True))

    def moved_mm(self, settings: EditSettings, expressions: Sequence[Expression]) -> float:
        self.wanted.append(list(expressions))
        return super().moved_mm(settings, expressions)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Shifting:
    """Stand-ins for the judges and for every study's model."""
    model = Shifting()
    monkeypatch.setattr(measured_edits, "load_judges", lambda: JUDGES)
    monkeypatch.setattr(
        StudyOfEdits, "unseen", lambda self: PopulationConfig(split="test", size=64, num_images=len(CATEGORIES))
    )
    monkeypatch.setattr(StudyOfEdits, "model", lambda self: model)
    return model


@pytest.fixture
def person() -> Person:
    config = PopulationConfig(split="test", size=128, num_images=len(CATEGORIES))
    return draw_person(config, 0, population_heads(config.ict))


TWO = (
    StudyCondition(at={"at": "near"}, edits={MODEL: Edit(), Row("model_slow"): Edit(settings=EditSettings(steps=5))}),
    StudyCondition(
        at={"at": "far"},
        edits={MODEL: Edit(asks="category")},
        captured=lambda image, person: replace(image, depth_mm=image.depth_mm + 100),
        beside=(COPY,),
    ),
)


@dataclass(frozen=True, kw_only=True)
class NearAndFar(StudyOfEdits):
    """A study of two conditions."""

    NAME = "near-and-far"

    def run(self, work: Work) -> Steps[Results]:
        return Results(table=(yield from measure_conditions(self, work, TWO)))


def test_a_condition_of_a_person_is_an_item(networks: Shifting, tmp_path: Path) -> None:
    work = run_study(NearAndFar(persons=2), tmp_path)
    assert [next(work).note for _ in range(4)] == ["", "000000_at_near", "000000_at_far", "000001_at_near"]
    work.close()
    before = len(networks.asked)
    finish(run_study(NearAndFar(persons=2), tmp_path))
    assert len(networks.asked) == before + 3
    assert {path.stem for path in (tmp_path / "persons").iterdir()} == {
        f"00000{i}_at_{name}" for i in (0, 1) for name in ("near", "far")
    }


def test_a_condition_changes_source_settings_and_what_is_asked(networks: Shifting, tmp_path: Path) -> None:
    model = networks
    finish(run_study(NearAndFar(persons=1, seed=3), tmp_path))
    (near, plain), (slow, slowly), (far, _) = model.requests
    assert [settings.steps for settings in (plain, slowly)] == [1, 5]
    assert {settings.seed for _, settings in model.requests} == {3}
    assert all(e.arkit is not None for e in [*near, *slow])
    assert all(e.arkit is None for e in far)
    assert model.sources[2].depth_mm.max() == pytest.approx(model.sources[0].depth_mm.max() + 100)

    numbers = json.loads((tmp_path / "metrics.json").read_text())
    # The truth is the same, whatever the source.
    assert numbers["depth/mae_mm_metric/copy_source/at=far"] == pytest.approx(100, abs=2)
    assert (
        numbers["depth/mae_mm_metric/model/at=near"] > numbers["depth/mae_mm_metric/autoencoder_ceiling/at=near"] == 0
    )
    assert numbers["depth/mae_mm_metric/model_slow/at=near"] > numbers["depth/mae_mm_metric/model/at=near"]
    assert "expression/top1_both/ceiling/at=near" in numbers
    assert "expression/top1_both/ceiling/at=far" not in numbers
    assert numbers["refused/share/model/at=near"] == 0
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {("model", "near"), ("copy_source", "far"), ("ceiling", "near")} <= {
        (line["row"], line["at"]) for line in lines
    }


def test_a_face_that_is_not_found_is_a_copy_and_counted(networks: Shifting, tmp_path: Path) -> None:
    model = networks
    model.blind = True
    finish(run_study(NearAndFar(persons=2), tmp_path))
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["refused/share/model/at=near"] == 1
    assert numbers["depth/mae_mm_metric/model/at=near"] == numbers["depth/mae_mm_metric/copy_source/at=near"]
    assert not model.asked
    # Different persons are told apart by something, which stands beside every distance.
    assert numbers["identity_apart/faceapi/at=near"] > 0


def test_conditions_that_would_count_persons_twice_are_refused(networks: Shifting, tmp_path: Path) -> None:
    for wrong in ((), (TWO[0], TWO[0])):
        with pytest.raises(ConfigError, match="at least one, each once"):
            next(measure_conditions(NearAndFar(), Work(tmp_path), wrong))


def test_guidance_is_swept_at_every_intensity_with_weights_and_without(networks: Shifting, tmp_path: Path) -> None:
    model = networks
    config = Guidance(persons=2, scales=(1.0, 3.0), intensities=(0.5, 1.0))
    finish(run_study(config, tmp_path / "seeing"))
    asked = [(e[1].arkit is None, e[1].intensity, settings.guidance_scale) for e, settings in model.requests]
    assert sorted(set(asked)) == [(a, i, g) for a in (False, True) for i in (0.5, 1.0) for g in (1.0, 3.0)]
    assert len(asked) == 2 * len(set(asked))
    figure = ElementTree.parse(tmp_path / "seeing/figure.svg")
    said = [e.text for e in figure.iter("{http://www.w3.org/2000/svg}text")]
    assert {"intensity 0.5", "intensity 1", "copy", "autoencoder"} <= set(said)
    # Persons at rest are as far apart at every intensity, and of equal levels one is drawn.
    assert "other persons, 0.5 1" in said

    # What the editor decides by itself needs no face; what moves one does.
    model.blind = True
    model.asked.clear()
    model.wanted.clear()
    finish(run_study(config, tmp_path / "blind"))
    assert all(e[1].arkit is None for e, _ in model.requests)
    numbers = json.loads((tmp_path / "blind/metrics.json").read_text())
    assert numbers["refused/share/token/guidance=3/intensity=1"] == 0
    assert numbers["refused/share/weights/guidance=3/intensity=1"] == 1


def test_each_axis_of_cameras_changes_what_it_says(person: Person) -> None:
    standard = orbit_camera(size=128)

    def eye(camera: object) -> np.ndarray:
        return np.linalg.inv(camera.cam_from_world)[:3, 3] - FRONT_TARGET_MM  # type: ignore[attr-defined]

    def width_px(camera: object, mm: float = 100) -> float:
        ends = FRONT_TARGET_MM + np.array([[-mm / 2, 0, 0], [mm / 2, 0, 0]])
        return float(np.ptp(project(camera, ends)[:, 0]))  # type: ignore[arg-type]

    left, right = (eye(seen_from(replace(person, index=i), "yaw", 30.0).camera) for i in (0, 1))
    assert left[0] > 0 > right[0]
    assert eye(seen_from(person, "pitch", 30.0).camera)[1] == pytest.approx(700 / 2)
    longer = seen_from(person, "focal", 1.4).camera
    assert np.allclose(eye(longer), eye(standard))
    assert width_px(longer) == pytest.approx(1.4 * width_px(standard))
    near = seen_from(person, "distance", 350.0).camera
    assert np.linalg.norm(eye(near)) == pytest.approx(350)
    assert width_px(near) == pytest.approx(width_px(standard))
    for axis, (_, value) in AXES.items():
        if axis != "pitch":
            assert np.allclose(seen_from(person, axis, value).camera.cam_from_world, standard.cam_from_world)


def test_every_axis_is_a_chart_through_the_standard_camera(networks: Shifting, tmp_path: Path) -> None:
    config = Cameras(persons=1, yaw=(30.0,), pitch=(), focal=(1.2,), distance=())
    assert config.on("focal") == [(1.0, {}), (1.2, {"focal": 1.2})]
    steps = list(run_study(config, tmp_path))
    names = ["000000", "000000_yaw_30", "000000_focal_1.2"]
    assert [step.note for step in steps if step.stage == "persons"] == names
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert {f"{DEPTH}/model{at}" for at in ("", "/yaw=30", "/focal=1.2")} <= set(numbers)


def test_a_persons_expression_grows_with_its_intensity(person: Person) -> None:
    weak, strong = at_intensity(person, 0.25), at_intensity(person, 1.0)
    units = [i for name, i in ARKIT_INDEX.items() if "eye" not in name]
    for a, b in zip(weak.expressions, strong.expressions, strict=True):
        assert (a.category, a.intensity) == (b.category, 0.0 if a.category == "neutral" else 0.25)
        assert a.arkit is not None
        assert b.arkit is not None
        if a.category != "neutral":
            assert b.arkit[units].sum() > 2 * a.arkit[units].sum()
    # How a face rests is part of it, whatever it shows.
    assert np.array_equal(weak.expressions[0].arkit, strong.expressions[0].arkit)


def test_displacement_is_a_share_of_the_true_change(person: Person) -> None:
    config = PopulationConfig(split="test", size=64)
    truth = render_ground_truth(replace(person, camera=orbit_camera(size=64)), population_heads(config.ict))
    rest = truth.images[0]

    def part(share: float) -> list[Rgbd]:
        both = [i.mask & rest.mask for i in truth.images]
        return [
            replace(i, mask=m, depth_mm=np.where(m, rest.depth_mm + share * (i.depth_mm - rest.depth_mm), 0))
            for i, m in zip(truth.images, both, strict=True)
        ]

    rows = {"ceiling": truth.images, "half": part(0.5), "back": part(-1), "copy_source": [rest] * len(truth.images)}
    records = displacements({Row(name): images for name, images in rows.items()}, truth)
    found = {(record.row.name, record.measure): record.values for record in records}
    for row, share in (("ceiling", 1), ("half", 0.5), ("back", -1), ("copy_source", 0)):
        # The first is the person at rest, who moves nowhere: no share of nothing.
        assert np.isnan(found[row, RATIO][0])
        assert found[row, RATIO][1:] == pytest.approx([share] * 6, abs=1e-4)
        assert found[row, OBTAINED] == pytest.approx(abs(share) * found["ceiling", OBTAINED], abs=1e-4)


def test_what_is_obtained_follows_what_is_asked_or_does_not() -> None:
    rng = np.random.default_rng(0)
    category = (0, 1, 2, 3)
    found: list[list[PersonRecords]] = []
    for asked in (0.0, 0.5, 1.0):
        found.append([])
        for _ in range(3):
            noise = rng.normal(0, 0.02, 4)
            records = []
            for name in ("weights", "category", "ceiling", "autoencoder_ceiling", "copy_source"):
                seen = noise + (-asked if name == "category" else asked)
                records.append(Record(row=Row(name), measure="expression/asked_both", values=seen))
                records.append(Record(row=Row(name), measure=OBTAINED, values=noise + asked))
            shown = (0.0, asked, asked, asked)
            found[-1].append(PersonRecords(parts={}, category=category, intensity=shown, records=tuple(records)))
    table = correlations(found)
    assert table[Row("weights")]["expression/cls_both"].value > 0.95
    assert table[Row("category")]["expression/cls_both"].value < -0.95
    assert table[Row("category")]["displacement/pearson"].value > 0.95
    assert table[Row("weights")]["expression/cls_both"].low <= table[Row("weights")]["expression/cls_both"].value


def test_a_copy_moves_nowhere_at_any_intensity(networks: Shifting, tmp_path: Path) -> None:
    finish(run_study(Intensity(persons=2, intensities=(0.25, 1.0)), tmp_path))
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    moved = [numbers[f"displacement/rms_mm/ceiling/intensity={i}"] for i in ("0.25", "1")]
    assert moved[1] > 2 * moved[0] > 0
    assert numbers["displacement/rms_mm/copy_source/intensity=1"] == 0
    assert numbers["displacement/ratio/ceiling/intensity=1"] == pytest.approx(1)
    assert numbers["displacement/pearson/ceiling"] > 0.9
    assert numbers["displacement/rms_mm/weights/intensity=1"] == pytest.approx(1)
    with pytest.raises(ValueError, match="at least two"):
        Intensity(intensities=(1.0,))


@pytest.fixture
def image(person: Person) -> Rgbd:
    config = PopulationConfig(split="test")
    truth: GroundTruth = render_ground_truth(
        replace(person, camera=orbit_camera(size=128)), population_heads(config.ict)
    )
    return truth.images[0]


def test_a_source_has_the_fault_that_is_asked_for_and_no_other(person: Person, image: Rgbd) -> None:
    by = partial(captured, image, person)
    noisy, holed, stepped, grainy = (
        by("noise_mm", 2.0),
        by("holes", 0.2),
        by("quantisation_mm", 2.0),
        by("color_noise", 0.1),
    )
    inside = noisy.mask & image.mask
    # Slanted skin is noisier than what faces the camera.
    assert 1.5 < (noisy.depth_mm - image.depth_mm)[inside].std() < 4
    assert np.array_equal(noisy.rgb, holed.rgb)
    assert 0.2 <= 1 - holed.mask.sum() / image.mask.sum() < 0.3
    assert np.array_equal(holed.depth_mm[holed.mask], image.depth_mm[holed.mask])
    levels = np.unique(stepped.depth_mm[stepped.mask & (image.depth_mm > 650) & (image.depth_mm < 750)])
    assert np.diff(levels).mean() == pytest.approx(2, rel=0.15)
    assert np.abs(stepped.depth_mm - image.depth_mm)[stepped.mask].max() < 1.5
    assert np.array_equal(grainy.depth_mm, image.depth_mm)
    assert 0.05 < (grainy.rgb - image.rgb).std() < 0.11
    assert np.array_equal(by("holes", 0.2).mask, holed.mask)


def test_noise_makes_the_copy_worse_and_leaves_the_truth_alone(networks: Shifting, tmp_path: Path) -> None:
    config = SourceNoise(persons=1, noise_mm=(1.0, 4.0), holes=(), quantisation_mm=(), color_noise=())
    numbers = finish(run_study(config, tmp_path))
    copies = [float(numbers[f"{DEPTH}/copy_source{at}"]) for at in ("", "/noise_mm=1", "/noise_mm=4")]
    assert copies[0] < copies[1] < copies[2]
    assert f"{DEPTH}/autoencoder_ceiling/noise_mm=1" not in numbers

"""The study of f at its smallest: whole, gone on with after a kill, and honest about what it compares."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.config import override
from omote.engine import loop as engine
from omote.errors import ConfigError
from omote.evaluation.features import FeatureExtractor
from omote.progress import finish
from omote.recipes.first_stage import FACTORS
from omote.studies.base import run_study
from omote.studies.effect_of_f import train_and_measure as effect_of_f
from omote.studies.effect_of_f.study import ROWS, EffectOfF, factor_of


def pooled(rgb):
    return torch.nn.functional.adaptive_avg_pool2d(rgb, 2).flatten(1).double()


EXTRACTOR = FeatureExtractor(name="face_id_mean_crop", forward=pooled)


@pytest.fixture(scope="module")
def config(discs):
    return replace(EffectOfF(population=discs, **EffectOfF.TINY), num_drawn=7, minutes=0.004, first_stage_minutes=0.002)


@pytest.fixture(autouse=True, scope="module")
def extractor():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effect_of_f, "load_extractor", lambda name: EXTRACTOR)
        yield


@pytest.fixture(scope="module")
def done(config, tmp_path_factory, steady_clock):
    """All rows, the first of them killed on the way."""
    out = tmp_path_factory.mktemp("study")

    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "time", steady_clock)

        # After the first time of the second row is trained, before it is measured.
        def drawn(config, row, *rest, real=effect_of_f._measured):
            if row == "kl-f4":
                raise Killed
            return real(config, row, *rest)

        patch.setattr(effect_of_f, "_measured", drawn)
        with pytest.raises(Killed):
            finish(run_study(config, out))
    kept = {path: path.stat().st_mtime_ns for path in out.glob("rows/pixel/mark_*.json")}
    first_stage = (out / "rows/kl-f4/first_stage/checkpoint/weights.safetensors").stat().st_mtime_ns
    assert len(kept) == 2
    assert (out / "rows/kl-f4/latents").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "time", steady_clock)
        finish(run_study(config, out))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (out / "rows/kl-f4/first_stage/checkpoint/weights.safetensors").stat().st_mtime_ns == first_stage
    return out


def test_every_row_is_measured_at_every_time(config, done):
    metrics = json.loads((done / "metrics.json").read_text())
    for row in config.rows:
        early, late = (60 * metrics[f"training/minutes/{row}{end}"] for end in ("/share=0.5", ""))
        # A step over its time at most.
        assert 0.5 * 60 * config.minutes <= early < late
        assert late >= 60 * config.minutes
        assert metrics[f"training/images/{row}/share=0.5"] < metrics[f"training/images/{row}"]
        for key in (
            "fd/face_id_mean_crop",
            "fd/face_id_mean_crop_shaded_depth",
            "precision/face_id_mean_crop",
            "recall/face_id_mean_crop",
            "depth/nearest_mm",
        ):
            assert np.isfinite(metrics[f"{key}/{row}"])
        assert metrics[f"speed/samples_per_s/{row}"] > 0
        assert (done / f"rows/{row}/mark_1.png").exists()
    assert metrics["fd/face_id_mean_crop/real"] > 0
    # The time of a first stage is counted apart.
    assert metrics["first_stage/minutes/kl-f4"] >= config.first_stage_minutes
    assert "first_stage/minutes/pixel" not in metrics
    assert (metrics["model/f/pixel"], metrics["model/f/kl-f4"]) == (1, 4)


def test_the_table_and_the_figure_have_every_row(config, done):
    with (done / "table.csv").open() as file:
        rows = [(line["row"], line["share"]) for line in csv.DictReader(file)]
    assert rows == [("real", ""), *((row, share) for row in config.rows for share in ("0.5", ""))]
    figure = (done / "figure.svg").read_text()
    assert figure.count("<polyline") == len(config.rows)
    assert all(f">{row}<" in figure for row in config.rows)


def test_a_finished_study_does_nothing_more(config, done):
    stages = [step.stage for step in run_study(config, done)]
    assert set(stages) == {"images", "floor", "rows"}


def test_latents_are_gone_when_their_row_is_done(done):
    assert not (done / "rows/kl-f4/latents").exists()


def test_wrong_rows_sizes_and_folders_are_refused(config, tmp_path):
    with pytest.raises(ConfigError, match="expected 'pixel'"):
        override(config, ['rows=["kl-f3"]'])
    with pytest.raises(ConfigError, match="increasing shares"):
        override(config, ["marks=[0.5,0.25]"])
    with pytest.raises(ConfigError, match="leave no latent"):
        finish(run_study(replace(config, size=32, rows=("kl-f32",)), tmp_path))
    with pytest.raises(ConfigError, match="at least 4 persons"):
        finish(run_study(replace(config, max_persons=5), tmp_path / "few"))


def test_the_defaults_compare_f_of_1_to_32_and_a_gan(config):
    rows = EffectOfF(population=config.population).rows
    assert rows == ("pixel", "kl-f2", "kl-f4", "kl-f8", "kl-f16", "kl-f32", "gan")
    assert {factor_of(row) for row in ROWS} == {1, *FACTORS}

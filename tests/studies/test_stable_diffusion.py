"""The study of Stable Diffusion models: rows, floors, and the rivals from nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from narrow_sd import narrow_folder, narrow_sd
from omote.datasets.population import PopulationConfig
from omote.errors import CheckpointError, OmoteError
from omote.evaluation.judges.weights import locate
from omote.evaluation.records import Row
from omote.geometry.rig import rig_of
from omote.images.stable_diffusion.checkpoint import save_stable_diffusion
from omote.images.stable_diffusion.extend import extended
from omote.images.stable_diffusion.model import Views
from omote.studies.base import run_study
from omote.studies.stable_diffusion import ALIGNED, DEPTH, FD, StableDiffusionStudy, compared, tabled


def test_a_rival_from_nothing_is_compared_over_persons() -> None:
    rng = np.random.default_rng(0)
    errors = rng.uniform(2, 4, 30)
    found = {
        "vae": {FD: 0.1, DEPTH: [1.0] * 30, ALIGNED: [0.5] * 30},
        "sd-rgbd": {FD: 0.5, DEPTH: errors.tolist(), ALIGNED: errors.tolist()},
        "sd-rgbd-scratch": {FD: 0.9, DEPTH: (errors + 1).tolist(), ALIGNED: errors.tolist()},
        "sd-multiview": {FD: 0.4},
        "sd-multiview-scratch": {FD: 0.8},
    }
    notes = compared(found)
    assert notes.keys() == {Row("sd-rgbd")}
    assert float(notes[Row("sd-rgbd")]["p_depth_vs_scratch"]) < 0.01
    table = tabled(found)
    assert table[Row("sd-multiview")] == {FD: 0.4}
    assert table[Row("sd-rgbd")][DEPTH].low < errors.mean() < table[Row("sd-rgbd")][DEPTH].high


def test_models_of_every_kind_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        locate()
    except OmoteError as error:
        pytest.skip(str(error))
    # Of each person's expressions, one is looked at.
    monkeypatch.setattr(StableDiffusionStudy, "unseen", lambda self: PopulationConfig(split="test", num_images=2))
    base, rig = narrow_sd(), rig_of(["2"])
    narrow_folder(tmp_path / "base/export")
    kinds = {
        "depth": Views(depth=True, rig=rig, depth_range_mm=(-60.0, 60.0)),
        "views": Views(multiview=True, rig=rig),
    }
    for name, views in kinds.items():
        unet = extended(base.unet, depth=views.depth, init="halved", num_views=2 if views.multiview else 0)
        save_stable_diffusion(replace(base, unet=unet, views=views), tmp_path / name / "export")
    models = tuple(tmp_path / name / "export" for name in ("base", *kinds))
    study = StableDiffusionStudy(persons=2, models=models, steps=1, guidance_scale=1.0)
    steps = run_study(study, tmp_path / "out")
    try:
        while True:
            next(steps)
    except StopIteration as end:
        numbers = end.value
    assert {f"{FD}/{row}" for row in ("vae", "base", "depth", "views")} <= numbers.keys()
    assert f"{DEPTH}/depth" in numbers
    assert f"{DEPTH}/views" not in numbers
    assert numbers[f"{ALIGNED}/vae"] <= numbers[f"{DEPTH}/vae"] + 1e-6
    assert all(np.isfinite(value) for value in numbers.values())
    assert "depth" in study.summary(numbers)
    with pytest.raises(CheckpointError, match="no such file"):
        list(run_study(replace(study, models=(tmp_path / "none",)), tmp_path / "other"))

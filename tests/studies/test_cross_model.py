"""The study of head families at its smallest: equal sets, the style of units kept from who must not know it, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.datasets.cache import ARRAYS, read_shard, shard_folders, write_shard
from omote.datasets.pair_source import PairSource
from omote.errors import ConfigError
from omote.evaluation.records import PersonRecords, Row, Table
from omote.head import shipped
from omote.head.shipped import population_heads, shipped_head
from omote.progress import Step, Steps, finish
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.model import EditingModel
from omote.rgbd.train.autoencoder import measure_latents
from omote.studies import measured_edits
from omote.studies.base import Work, run_study
from omote.studies.cross_model import CrossModel, laid_out, sets_of
from omote.studies.table import DEPTH

FAMILIES = [replace(shipped_head(), name=name) for name in ("first", "second")]


@pytest.fixture(scope="module")
def config(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossModel:
    """Four persons of the first family and six of the second, behind a first stage that has learned nothing but its units."""
    folder = tmp_path_factory.mktemp("cross_model")
    shard = read_shard(shard_folders(discs)[0])
    arrays = {key: np.array(getattr(shard, key)) for key in ARRAYS}
    arrays["head"] = np.array([0, 1, 1, 0, 1, 1, 0, 1, 1, 0], arrays["head"].dtype)
    arrays["person"] = np.arange(10).astype(arrays["person"].dtype)
    write_shard(folder / "population/shard_0000000", arrays, {"seed": 0, "size": 64})
    autoencoder = RgbdAutoencoder(sample_size=64, channels=(16,), fine_channels=16)
    measure_latents(autoencoder, PairSource(folder / "population", population_heads()))
    autoencoder.save_pretrained(folder / "weights/autoencoder")
    return CrossModel(
        population=folder / "population",
        weights=folder / "weights",
        images=16,
        channels=(16, 32),
        batch_size=8,
        persons=1,
        ict=folder / "ict",
    )


def test_families_are_halved_equally(config: CrossModel, tmp_path: Path) -> None:
    first, second = laid_out(config, tmp_path)
    persons = {name: read_shard(tmp_path / name).person.tolist() for name in (*first, *second)}
    assert [persons[name] for name in (*first, *second)] == [[0, 3], [6, 9], [1, 2], [4, 5]]
    assert sets_of(["a", "b"], [first, second]) == {
        "both": [first[0], second[0]],
        "a": [*first],
        "b": [*second],
    }


def test_a_population_of_one_family_is_refused(config: CrossModel, discs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2 persons of each family, got 10 and 0"):
        laid_out(replace(config, population=discs), tmp_path)
    with pytest.raises(ConfigError, match="give --ict"):
        finish(run_study(replace(config, ict=None), tmp_path))


def test_three_editors_learn_and_are_kept(config: CrossModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def measured(
        study: CrossModel,
        work: Work,
        conditions: object,
        *,
        networks: Mapping[str, EditingModel],
        overall: Callable[[list[list[PersonRecords]]], Table],
    ) -> Steps[Table]:
        given.extend(f"{name} {network.editor.config.unit_style}" for name, network in networks.items())
        yield Step(stage="measure")
        rows = {Row(name).under(head=head.name): {DEPTH: 1.0} for name in networks for head in FAMILIES}
        return {**overall([[]]), **rows}

    monkeypatch.setattr(measured_edits, "measure_conditions", measured)
    monkeypatch.setattr(shipped, "population_heads", lambda ict=None: FAMILIES if ict else population_heads())
    finish(run_study(config, tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/checkpoint/weights.safetensors")}
    kept |= {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/edits/*/*.npy")}
    assert len(kept) > 3
    numbers = finish(run_study(config, tmp_path))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # The style of units knows the second family, so the run of the first alone must do without.
    assert given == ["both True", "first False", "second True"] * 2
    assert {numbers[f"training/persons/{name}"] for name in ("both", "first", "second")} == {4}
    assert "trained on first" in (tmp_path / "figure.svg").read_text()

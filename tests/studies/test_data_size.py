"""The study of data size at its smallest: sets that contain each other, the same training for each, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from omote.config import override
from omote.datasets.cache import read_shard, shard_folders
from omote.datasets.pair_source import PairSource
from omote.errors import ConfigError
from omote.evaluation.records import Table
from omote.head.shipped import population_heads
from omote.progress import Step, Steps, finish
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.identity_stage import load_first_stage
from omote.rgbd.model import EditingModel
from omote.rgbd.train.autoencoder import measure_latents
from omote.rgbd.train.latent_cache import CachedLatentPairs
from omote.studies import measured_edits
from omote.studies.base import Record, Work, run_study
from omote.studies.data_size import DataSize, cut, sizes_in
from omote.studies.table import AUTOENCODER, CEILING, COLOR, COPY, DEPTH, IDENTITY, MOVING, TOP1


@pytest.fixture(scope="module")
def config(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> DataSize:
    """Behind a first stage that has learned nothing but its units."""
    weights = tmp_path_factory.mktemp("weights")
    autoencoder = RgbdAutoencoder(sample_size=64, channels=(16,), fine_channels=16)
    measure_latents(autoencoder, PairSource(discs, population_heads()))
    autoencoder.save_pretrained(weights / "autoencoder")
    return DataSize(**{**DataSize.TINY, "population": discs, "sizes": (0, 2, 5, 1000), "weights": weights})


@pytest.fixture(scope="module")
def done(config: DataSize, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Trained for every size and measured by a stand-in; the networks that it was given."""
    out, given = tmp_path_factory.mktemp("study"), []

    def measured(
        study: DataSize,
        work: Work,
        conditions: object,
        *,
        networks: Mapping[str, EditingModel],
        overall: Callable[[list[list[Record]]], Table],
    ) -> Steps[Table]:
        given.extend(networks)
        costs = overall([[]])
        rows = [*costs, CEILING, AUTOENCODER, COPY]
        table = {row: {key: 1.0 + n for key in (DEPTH, MOVING, COLOR, IDENTITY, TOP1)} for n, row in enumerate(rows)}
        yield Step(stage="measure")
        return {row: {**table[row], **costs.get(row, {})} for row in table}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured_edits, "measure_conditions", measured)
        finish(run_study(config, out))
        kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/checkpoint/weights.safetensors")}
        kept |= {path: path.stat().st_mtime_ns for path in (out / "edits").glob("*/*.npy")}
        assert len(kept) > 3
        # Gone on with, nothing is encoded or trained again.
        finish(run_study(config, out))
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
    return out, given


def test_every_size_that_there_is_has_a_network(config: DataSize, done: tuple[Path, list[str]]) -> None:
    out, given = done
    assert given == ["persons_2", "persons_5", "persons_10"] * 2
    numbers = json.loads((out / "metrics.json").read_text())
    for size in (2, 5, 10):
        assert numbers[f"training/persons/editor/persons={size}"] == size
        assert numbers[f"training/images/editor/persons={size}"] == config.images


def test_the_first_persons_are_part_of_every_larger_set(config: DataSize, done: tuple[Path, list[str]]) -> None:
    out, _ = done
    whole = read_shard(shard_folders(config.population)[0])
    first_stage = load_first_stage(config.autoencoder).float()
    for size in (2, 5, 10):
        shards = [read_shard(path) for path in shard_folders(out / f"runs/persons_{size}/population")]
        np.testing.assert_array_equal(np.concatenate([shard.rgb for shard in shards]), whole.rgb[:size])
        edits = CachedLatentPairs(out / f"runs/persons_{size}/edits", first_stage)
        assert sum(len(shard["source"]) for shard in edits.shards) == size


def test_sizes_differ_in_nothing_but_their_persons(done: tuple[Path, list[str]]) -> None:
    out, _ = done
    told = [json.loads((out / f"runs/persons_{size}/config.json").read_text()) for size in (2, 5, 10)]
    for one in told:
        assert Path(one.pop("latents")).name == "edits"
        assert Path(one.pop("population")).name == "population"
        assert one["start_from"] is None
    assert told[0] == told[1] == told[2]


def test_the_figure_has_a_line_over_persons_between_its_levels(done: tuple[Path, list[str]]) -> None:
    out, _ = done
    root = ElementTree.parse(out / "figure.svg").getroot()
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert [len(line.get("points", "").split()) for line in lines] == [3] * 5
    across = [[float(point.split(",")[0]) for point in line.get("points", "").split()] for line in lines]
    # 2, 5 and 10 lie evenly on a logarithmic axis, nearly.
    assert (across[0][1] - across[0][0]) / (across[0][2] - across[0][1]) == pytest.approx(
        np.log(5 / 2) / np.log(10 / 5), rel=0.01
    )


def test_pieces_end_where_a_size_ends(config: DataSize, tmp_path: Path) -> None:
    shard = shard_folders(config.population)[0]
    assert cut({shard: 10}, [3, 10], tmp_path / "cut") == {"shard_0000000": 3, "shard_0000003": 10}
    assert not (tmp_path / "cut/shard_0000000").is_symlink()
    # What no size divides is not copied.
    assert cut({shard: 10}, [10], tmp_path / "whole") == {"shard_0000000": 10}
    assert (tmp_path / "whole/shard_0000000").is_symlink()


def test_sizes_that_cannot_be_are_refused(config: DataSize, tmp_path: Path) -> None:
    assert sizes_in(config, 1000) == [2, 5, 1000]
    with pytest.raises(ConfigError, match="expected at least 20"):
        sizes_in(replace(config, sizes=(20,)), 10)
    with pytest.raises(ConfigError, match="each once"):
        override(config, ["sizes=[2,2]"])
    # In minutes, images do not count.
    engine = replace(config, minutes=2.0).recipe(tmp_path).engine
    assert engine.max_seconds == 120
    assert engine.total_images > 10**8

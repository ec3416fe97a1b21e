"""Scans of a dataset become shards that training reads: what is asked of a known head is found again in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from omote import api
from omote.cli.main import main
from omote.datasets.cache import DEPTH_UNIT_MM, NO_CATEGORY, read_shard, shard_folders
from omote.datasets.layouts.layout import usable
from omote.datasets.layouts.registry import list_items
from omote.datasets.pair_source import PairSource
from omote.datasets.pairs import draw_pairs
from omote.datasets.population import draw_identity
from omote.errors import ConfigError, DatasetError
from omote.formats.read import PLAIN
from omote.head.expressions import ARKIT_INDEX, CATEGORIES, arkit_weights
from omote.head.shipped import population_heads, shipped_head
from omote.progress import finish
from omote.rgbd.conditions.category import Category
from omote.rgbd.conditions.conditioner import Conditioner
from omote.rgbd.conditions.kinds import condition_of_pairs
from omote.rgbd.train.autoencoder import packed
from omote.rgbd.train.dataset_shards import DatasetRender, SubjectRenderer, shard_folder
from omote.shards.worker import Loss

SHOWN = {"neutral": {}, "happy": {"mouthSmile": 0.9, "cheekSquint": 0.5}, "jawOpen": {"jawOpen": 0.7}}


def write_head(path: Path, vertices: np.ndarray, turn_rad: float) -> None:
    """Write the shipped head in centimetres, turned about its vertical axis."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    turned = vertices @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) / 10
    lines = ["v {:.5f} {:.5f} {:.5f}".format(*v) for v in turned]
    lines += ["f {} {} {}".format(*(f + 1)) for f in shipped_head().faces]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write one person at rest and in two expressions, each scan turned its own way, and a person that is not whole."""
    folder = tmp_path_factory.mktemp("faces")
    head = shipped_head()
    identity = draw_identity(head, np.random.default_rng(3))
    rows = ["path,subject,expression,intensity"]
    for k, (label, weights) in enumerate(SHOWN.items()):
        write_head(folder / f"{label}.obj", head.vertices(identity, arkit_weights(weights)), 0.1 * k - 0.1)
        rows.append(f"{label}.obj,anna,{label},")
    (folder / "short.obj").write_text("v 0 0 0\nv 1")
    rows += ["short.obj,anna,sad,0.5", "none.obj,anna,sad,0.5"]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def shards(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "shards"
    made = api.render_dataset(dataset, out, split="all", unit="cm")  # which spares the search at every scale
    assert (made.num_subjects, made.num_images, made.num_given_up) == (1, 3, 0)
    assert [p.path.name for p in made.problems] == ["labels.csv", "short.obj"]
    assert {n.reason for n in made.notes} == {PLAIN}
    return out


def test_a_scan_that_a_process_died_of_is_a_problem_of_its_subject(dataset: Path, tmp_path: Path) -> None:
    (items,) = usable(list_items(dataset, "auto")[1].items, dataset)[0]
    neutral = next(index for index, item in enumerate(items) if item.is_neutral)
    lost = {k: Loss(kind="crash", reason="it died") for k in range(len(items)) if k != neutral}
    config = DatasetRender(dataset="generic", folder=dataset, size=64, unit="cm")
    work = SubjectRenderer(config=config, head=shipped_head(), out=tmp_path)(items, lost)
    done = finish(work)
    assert (done.num_images, len(done.problems)) == (1, len(items) - 1)
    assert {problem.reason for problem in done.problems} == {"it died"}


def test_the_images_are_the_person_in_one_frame(shards: Path) -> None:
    (folder,) = shard_folders(shards)
    shard = read_shard(folder)
    assert shard.rgb.shape == (1, 3, 128, 128, 3)
    meta = json.loads((folder / "meta.json").read_text())
    order = meta["labels"]
    assert order[0] == "neutral"
    assert meta["files"][0] == "neutral.obj"
    assert 0.25 < shard.mask.mean() < 0.9
    # Forehead and bridge of the nose stay where they are, the chin goes down with the jaw.
    jaw = order.index("jawOpen")
    depth = shard.depth[0].astype(float) * DEPTH_UNIT_MM
    bridge = slice(40, 50), slice(59, 69)
    assert np.abs(depth[jaw][bridge] - depth[0][bridge]).mean() < 1.0
    landmarks = np.asarray(shard.landmarks[0])
    assert np.abs(landmarks[:, 27] - landmarks[0, 27]).max() < 1.0
    assert landmarks[jaw, 8, 1] - landmarks[0, 8, 1] > 4
    # What is seen through an open mouth belongs to the image.
    u, v = landmarks[jaw, 60:68].mean(axis=0).astype(int)
    assert shard.mask[0, jaw, v - 2 : v + 3, u - 2 : u + 3].all()


def test_what_moved_is_measured_and_what_has_no_category_has_none(shards: Path) -> None:
    (folder,) = shard_folders(shards)
    shard, order = read_shard(folder), json.loads((folder / "meta.json").read_text())["labels"]
    happy, jaw = order.index("happy"), order.index("jawOpen")
    assert not shard.arkit[0, 0].any()
    assert abs(shard.arkit[0, jaw, ARKIT_INDEX["jawOpen"]] - 0.7) < 0.2
    assert shard.arkit[0, happy, ARKIT_INDEX["mouthSmileLeft"]] > 0.5
    assert shard.arkit[0, happy, ARKIT_INDEX["jawOpen"]] < 0.15
    assert shard.category[0, 0] == 0
    assert shard.category[0, happy] == CATEGORIES.index("happy")
    assert shard.category[0, jaw] == NO_CATEGORY
    assert list(shard.intensity[0]) == [0.0, 1.0, 1.0]
    # The fit at rest lies where the person's landmarks are.
    face = shard.face(0, shipped_head())
    from omote.geometry.camera import project

    found = project(face.camera, shipped_head().landmarks(face.vertices_mm))[17:, :2]
    assert np.abs(found - shard.landmarks[0, 0, 17:]).mean() < 1.5


def test_training_draws_from_it(shards: Path) -> None:
    # More targets than scans.
    batch = PairSource(shards, population_heads()).batch(0, seed=0, size=4, part=0, targets_per_source=4)
    assert batch.target.rgb.shape == (4, 3, 128, 128)
    shard = read_shard(shard_folders(shards)[0])
    pairs = draw_pairs([shard], [np.random.default_rng(0)], shipped_head(), targets_per_source=3, augment=False)
    condition = condition_of_pairs(pairs, packed(pairs.target))
    assert condition[Category].given.tolist() == [c != NO_CATEGORY for c in pairs.category.tolist()]
    assert sorted(pairs.category.tolist()) == [NO_CATEGORY, 0, 1]
    conditioner = Conditioner(8)
    tokens, *_ = conditioner(condition)
    without = condition[Category].given.logical_not()
    torch.testing.assert_close(tokens[without, 0], conditioner.reader(Category).null.expand(1, -1))


def test_the_same_command_keeps_what_is_there(
    dataset: Path, shards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("nothing is aligned again")

    monkeypatch.setattr("omote.rgbd.train.dataset_shards.align", fail)
    assert main(["data", "render", str(dataset), "--out", str(shards), "--split", "all"]) == 0
    out, err = capsys.readouterr()
    assert "1 subjects, 3 images" in out
    assert "2 problems" in out
    assert "skipped" in err
    assert "short.obj" in err
    with pytest.raises(ConfigError, match="128 pixels"):
        api.render_dataset(dataset, shards, split="all", size=64)


def test_what_holds_no_face_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(b"ply\n")
    (tmp_path / "labels.csv").write_text("path,subject,expression\na.ply,x,neutral\n")
    with pytest.raises(DatasetError, match="no subject of 1 could be rendered; the first problem: a.ply"):
        api.render_dataset(tmp_path, tmp_path / "out", split="all")


def test_folders_of_subjects_are_plain_and_differ() -> None:
    names = ["面", "a/b", "a b", "../x", "x" * 300]
    folders = {shard_folder(Path("out"), name).name for name in names}
    assert len(folders) == len(names)
    assert all(len(name) < 80 and name.isascii() and "/" not in name for name in folders)

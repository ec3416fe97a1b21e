"""Every kind of file that comes from outside besides scans: a valid one of a few kilobytes, and the functions that use it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NUM_IDENTITY = 4


@dataclass(frozen=True)
class Kind:
    """A kind of file: writes a whole one into a folder, and reads the folder as a command would."""

    make: Callable[[Path], None]
    read: Callable[[Path], object]


def _persons(count: int = 2) -> dict[str, np.ndarray]:
    from omote.datasets.cache import empty_arrays

    rng, arrays = np.random.default_rng(0), empty_arrays(count, 3, 16, NUM_IDENTITY)
    arrays["rgb"][:] = rng.integers(0, 256, arrays["rgb"].shape)
    arrays["mask"][:] = 1
    arrays["category"][:] = [0, 1, 2]
    arrays["person"][:] = range(count)
    return arrays


def _make_shard(folder: Path) -> None:
    from omote.datasets.cache import write_shard

    write_shard(folder / "shard_0000000", _persons(), {"seed": 0, "size": 16})


def _read_shard(folder: Path) -> None:
    from omote.datasets.cache import read_shard, shard_folders
    from omote.datasets.pairs import images_of

    for path in shard_folders(folder):
        shard = read_shard(path)
        for person in range(shard.num_persons):
            images_of(shard, person, range(shard.num_images))


def _make_tar(folder: Path) -> None:
    from omote.datasets.tar_shards import write_index, write_tar_shard

    write_tar_shard(folder / "shard_0000000.tar", _persons(), {"seed": 0})
    write_index(folder, {"shard_0000000.tar": 2})


def _read_tar(folder: Path) -> None:
    from omote.datasets.cache import Shard
    from omote.datasets.tar_shards import TarShards

    shards = TarShards(Shard, folder)
    for position in range(2 * shards.num_persons if shards.num_persons < 100 else 2):
        shards.person(position, 0)


def _make_list(folder: Path) -> None:
    _make_tar(folder)
    (folder / "urls.txt").write_text(
        f"# two of them\n{folder}/shard_000000{{0..0}}.tar\n{folder}/shard_{{0000000,}}.tar\n"
    )


def _read_list(folder: Path) -> None:
    from omote.datasets.cache import Shard
    from omote.datasets.tar_shards import TarShards, shard_urls

    shard_urls(folder / "urls.txt")
    # Only what lies here is opened: a mutated URL may be any.
    TarShards(Shard, folder)


def _make_ict(folder: Path) -> None:
    rng, count = np.random.default_rng(0), 26719
    np.savez_compressed(
        folder / "ict.npz",
        vertices_cm=np.round(rng.normal(size=(count, 3)) * 5).astype(np.float32),
        faces=rng.integers(0, 14062, (50, 3)),
        uv=rng.random((40, 2)).round(1),
        faces_uv=rng.integers(0, 40, (50, 3)),
        identity_modes_cm=np.zeros((2, count, 3), np.float32),
        expression_shapes_cm=np.zeros((2, count, 3), np.float32),
        expression_names=np.array(["jawOpen", "cheekPuff_L"]),
        landmarks68=rng.integers(0, 14062, 68),
    )


def _read_ict(folder: Path) -> None:
    from omote.head.ict import ict_head

    ict_head.cache_clear()
    ict_head(folder / "ict.npz")


def _make_dataset(folder: Path) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["path", "subject", "expression", "intensity", "texture"])
    for i, word in enumerate(("neutral", "smile", "jawOpen", "anger")):
        writer.writerow([f"{i}.ply", "a", word, 1 / (i + 1), ""])
        (folder / f"{i}.ply").write_bytes(b"")
    (folder / "labels.csv").write_text(file.getvalue())


def _read_dataset(folder: Path) -> None:
    from omote.api import data

    data(folder, quick=True)


def _layout(name: str) -> Kind:
    from dataset_folders import FOLDERS

    return Kind(FOLDERS[name], _read_dataset)


def _make_checkpoint(folder: Path) -> None:
    from line_task import LineTask, config, run_to_end

    run_to_end(LineTask(), config(total=16, checkpoint_s=0.0), folder)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _read_checkpoint(folder: Path) -> None:
    """Resume, once as it is and once with checksums that fit the damage."""
    from line_task import LineTask, config, run_to_end
    from omote.errors import OmoteError
    from omote.files import sha256

    try:
        run_to_end(LineTask(), config(total=24), folder)
    except OmoteError:
        checkpoint = folder / "checkpoint"
        sums = {p.name: sha256(p) for p in checkpoint.iterdir() if p.is_file() and p.name != "checksums.json"}
        (checkpoint / "checksums.json").unlink(missing_ok=True)
        (checkpoint / "checksums.json").write_text(json.dumps(sums))
        run_to_end(LineTask(), config(total=24), folder)


def _make_weights(folder: Path) -> None:
    from omote.images.first_stage import image_autoencoder

    image_autoencoder(
        sample_size=8,
        regularisation="kl",
        latent_channels=2,
        num_codes=8,
        channels=(8, 8),
        layers_per_block=1,
        attention=False,
    ).save_pretrained(folder)


def _read_weights(folder: Path) -> None:
    from omote.images.first_stage import load_image_autoencoder

    load_image_autoencoder(folder)


def _make_prior(folder: Path) -> None:
    from omote.rgbd.expression_prior import FOLDER, ExpressionPrior

    ExpressionPrior(width=8, depth=1).save_pretrained(folder / FOLDER)


def _read_prior(folder: Path) -> None:
    from omote.rgbd.expression_prior import load_expression_prior

    load_expression_prior(folder)


def _make_results(folder: Path) -> None:
    from results import write_results

    write_results(folder / "results", num_persons=3)


def _read_results(folder: Path) -> None:
    from omote.evaluation.report.page import write_report
    from omote.evaluation.report.results import load_results

    write_report(load_results(folder / "results"))


def _make_packed(folder: Path) -> None:
    from PIL import Image

    from omote.images.packed import pack_images

    (folder / "images").mkdir()
    for i in range(3):
        Image.fromarray(np.full((12, 10, 3), 60 * i, np.uint8)).save(folder / f"images/{i}.png")
    (folder / "images/captions.jsonl").write_text(json.dumps({"file_name": "0.png", "text": "grey"}) + "\n")
    list(pack_images(folder / "images", folder / "packed", size=8))
    shutil.rmtree(folder / "images")


def _read_packed(folder: Path) -> None:
    from omote.images.packed import read_packed

    packed = read_packed(folder / "packed")
    for i in range(len(packed)):
        packed.crop(i)


def _make_config(folder: Path) -> None:
    from omote.config import dumps
    from omote.recipes import RECIPES

    (folder / "config.json").write_text(dumps(RECIPES["editor-tiny"](Path("runs"))))


def _read_config(folder: Path) -> None:
    from omote.config import load
    from omote.recipes import RECIPES

    load(type(RECIPES["editor-tiny"](Path("runs"))), folder / "config.json")


KINDS = {
    "shard": Kind(_make_shard, _read_shard),
    "tar": Kind(_make_tar, _read_tar),
    "list": Kind(_make_list, _read_list),
    "head": Kind(_make_ict, _read_ict),
    "dataset": Kind(_make_dataset, _read_dataset),
    **{f"dataset-{name}": _layout(name) for name in ("bu3dfe", "headspace", "generic")},
    "weights": Kind(_make_weights, _read_weights),
    "prior": Kind(_make_prior, _read_prior),
    "results": Kind(_make_results, _read_results),
    "packed": Kind(_make_packed, _read_packed),
    "config": Kind(_make_config, _read_config),
    "checkpoint": Kind(_make_checkpoint, _read_checkpoint),
}

"""What training cannot begin with: exit code 2, one line that names it, nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from omote.cli.main import main
from omote.datasets.cache import ARRAYS, read_shard, shard_folders
from omote.datasets.tar_shards import write_index, write_tar_shard
from omote.files import sha256


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    capsys.readouterr()
    assert main(arguments) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("omote: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert part in lines[0], err


def images(folder: Path, count: int = 9) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(np.full((40, 40, 3), 20 * i, np.uint8)).save(folder / f"{i}.png")
    return folder


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def test_an_unknown_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "autoencoder-tiny", "--run", str(tmp_path / "run"), "--set", "engine.batchsize=8"]
    refused(command, capsys, "engine.batchsize: unknown key (did you mean 'batch_size'?)")
    assert not files(tmp_path)


@pytest.mark.parametrize("form", ["npy", "webdataset"])
def test_shards_cut_in_half(form: str, discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    population = tmp_path / "population"
    if form == "npy":
        shutil.copytree(discs, population)
        cut = shard_folders(population)[0] / "depth.npy"
    else:
        population.mkdir()
        cut = population / "shard_0000000.tar"
        held = read_shard(shard_folders(discs)[0])
        write_tar_shard(cut, {**{n: getattr(held, n) for n in ARRAYS}, "person": np.arange(10)}, {})
        write_index(population, {cut.name: 10})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    before = files(tmp_path)
    refused(["train", "autoencoder-tiny", "--run", str(tmp_path / "run")], capsys, "not a whole shard", "shard_0000000")
    assert files(tmp_path) == before


def test_a_corrupt_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = images(tmp_path / "raw")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:50])
    before = files(tmp_path)
    command = ["data", "pack", str(folder), "--out", str(tmp_path / "images"), "--size", "32"]
    refused(command, capsys, "4.png: not a whole image", "replace or remove it")
    assert files(tmp_path) == before


def test_an_empty_folder_of_images_and_one_that_is_not_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw").mkdir()
    refused(["data", "pack", str(tmp_path / "raw"), "--out", str(tmp_path / "out")], capsys, "found none")
    images(tmp_path / "images")
    refused(["train", "autoencoder-paper-tiny", "--run", str(tmp_path / "run")], capsys, "omote data pack")
    assert not (tmp_path / "run").exists()
    refused(["generate", "--run", str(tmp_path), "--out", str(tmp_path / "out")], capsys, "expected generator/")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["missing", "reshaped"])
def test_a_checkpoint_that_is_another_networks(change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "pack", str(images(tmp_path / "raw")), "--out", str(tmp_path / "images"), "--size", "32"]
    assert main(command) == 0
    train = ["train", "autoencoder-paper-tiny", "--run", str(tmp_path / "autoencoder"), "--set"]
    assert main([*train, "engine.total_images=8"]) == 0
    path = tmp_path / "autoencoder/checkpoint/weights.safetensors"
    weights = load_file(path)
    name = "autoencoder.decoder.conv_out.bias"
    value = weights.pop(name)
    save_file(weights if change == "missing" else {**weights, name: value[:1]}, path)
    sums = path.with_name("checksums.json")
    sums.write_text(json.dumps({**json.loads(sums.read_text()), path.name: sha256(path)}))
    before, stats = files(tmp_path), (tmp_path / "autoencoder/stats.jsonl").read_bytes()
    said = f"{name} is missing" if change == "missing" else f"{name} is (1,), expected (3,)"
    refused([*train, "engine.total_images=16"], capsys, said, "give a new --run folder")
    assert files(tmp_path) == before
    assert (tmp_path / "autoencoder/stats.jsonl").read_bytes() == stats
    # The same of an export that the next stage reads.
    export = tmp_path / "autoencoder/export/autoencoder/diffusion_pytorch_model.safetensors"
    export.write_bytes(export.read_bytes()[:1000])
    refused(["train", "generator-paper-tiny", "--run", str(tmp_path / "generator")], capsys, "weights do not load")
    assert not (tmp_path / "generator").exists()


def test_a_dry_run_without_data_still_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "generator-paper-ffhq", "--run", str(tmp_path / "run"), "--dry-run"]) == 0
    printed, err = capsys.readouterr()
    assert '"batch_size": 42' in printed
    assert "274,056,163 parameters; time and memory not measured" in err
    assert not files(tmp_path)

"""Tars hold what folders of shards hold, and give it back by position: every person once an epoch, wherever one begins."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from omote.datasets.cache import ARRAYS, Shard, read_shard, shard_folders
from omote.datasets.pair_source import PairSource
from omote.datasets.tar_shards import TarShards, is_tar_shards, read_tar_shard, shard_urls, write_index, write_tar_shard
from omote.engine.loop import tensors_of
from omote.errors import DatasetError
from omote.head.shipped import population_heads


@pytest.fixture(scope="module")
def tars(discs, tmp_path_factory):
    """The ten discs, in five tars of two."""
    folder = tmp_path_factory.mktemp("tars")
    held = read_shard(shard_folders(discs)[0])
    for start in range(0, 10, 2):
        arrays = {name: getattr(held, name)[start : start + 2] for name in ARRAYS}
        arrays["person"] = np.arange(start, start + 2)
        write_tar_shard(folder / f"shard_{start:07d}.tar", arrays, {"start": start})
    write_index(folder, {f"shard_{start:07d}.tar": 2 for start in range(0, 10, 2)})
    return folder


def test_what_is_written_is_read_exactly(discs, tars):
    held, found = read_shard(shard_folders(discs)[0]), read_tar_shard(Shard, shard_urls(tars)[1])
    assert found.depth.dtype == np.int16
    for name in ("rgb", "depth", "mask", "landmarks", "arkit", "fit_camera"):
        np.testing.assert_array_equal(getattr(found, name), getattr(held, name)[2:4])


def test_an_epoch_has_everybody_once_in_an_order_of_its_own(tars):
    shards = TarShards(Shard, tars, window=2)
    epochs = [[int(shards.person(10 * e + i, 0).person[0]) for i in range(10)] for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1] != list(range(10))
    # A run that begins in the middle sees what it would have seen.
    assert int(TarShards(Shard, tars, window=2).person(17, 0).person[0]) == epochs[1][7]
    assert [int(shards.person(i, 1).person[0]) for i in range(10)] != epochs[0]


def test_urls_come_from_a_file_of_patterns(tars, tmp_path):
    listed = tmp_path / "urls.txt"
    listed.write_text(f"# two of five\n{tars}/shard_000000{{0,2}}.tar\npipe:cat {tars}/shard_0000004.tar\n")
    assert is_tar_shards(listed)
    with pytest.raises(DatasetError, match=r"lists a command to run \('pipe:cat .*--allow-pipe"):
        TarShards(Shard, listed)
    shards = TarShards(Shard, listed, allow_pipe=True)
    assert [url.rpartition("/")[2] for url in shards.urls] == [f"shard_000000{i}.tar" for i in (0, 2, 4)]
    assert shards.counts == [2, 2, 2]


def test_pairs_are_a_function_of_seed_and_step_and_divide(tars):
    whole = tensors_of(PairSource(tars, population_heads()).batch(3, 0, 8, 0, 2, 1))
    source = PairSource(tars, population_heads())
    parts = [tensors_of(source.batch(3, 0, 4, i, 2, 2)) for i in range(2)]
    for key in ("batch.source.rgb", "batch.target.depth_mm", "batch.category"):
        np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), whole[key])


@pytest.mark.parametrize("cut", [0.5, 0.97, None])
def test_a_tar_cut_short_is_one_line(tars, tmp_path, cut):
    path = tmp_path / "shard_0000000.tar"
    data = (tars / path.name).read_bytes()
    if cut is None:
        # At the border of two persons, without the end that a tar has: only the count tells.
        with tarfile.open(tars / path.name) as tar:
            border = next(m.offset for m in tar if m.name.startswith("000000001."))
        path.write_bytes(data[:border])
    else:
        path.write_bytes(data[: int(cut * len(data))])
    write_index(tmp_path, {path.name: 2})
    with pytest.raises(DatasetError, match="not a whole shard") as error:
        PairSource(tmp_path, population_heads())
    assert "\n" not in str(error.value)


def test_a_missing_tar_is_said(tars, tmp_path):
    (tmp_path / "shard_0000000.tar").write_bytes((tars / "shard_0000000.tar").read_bytes())
    write_index(tmp_path, {"shard_0000000.tar": 2, "shard_0000002.tar": 2})
    with pytest.raises(DatasetError, match=r"shard_0000002\.tar is missing"):
        TarShards(Shard, tmp_path)


def test_a_folder_whose_name_reads_as_a_command_is_a_folder(tars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipe:touch made").symlink_to(tars, target_is_directory=True)
    assert TarShards(Shard, Path("pipe:touch made")).num_persons == 10
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "pattern", ["{0..9999999}.tar", "{0..9}" * 8, "{a,b,c,d}" * 12, "{" + "9" * 30 + "..0}", "${lost}"]
)
def test_a_pattern_of_too_many_is_refused_before_it_is_expanded(tmp_path, pattern):
    (tmp_path / "urls.txt").write_text(pattern)
    with pytest.raises(DatasetError, match="no list of WebDataset shards"):
        shard_urls(tmp_path / "urls.txt")


@pytest.mark.parametrize(
    "text", ["[", '{"persons": []}', '{"persons": {"a.tar": -1}}', '{"persons": {"a.tar": "2"}}', "[" * 9000]
)
def test_a_damaged_index_is_one_line(tmp_path, text):
    (tmp_path / "a.tar").touch()
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DatasetError, match="index.json: damaged .*counted anew"):
        TarShards(Shard, tmp_path)

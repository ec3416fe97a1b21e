"""Shards and pairs, on a tiny shard that the test writes."""

import numpy as np
import pytest
import torch

from omote.datasets.cache import DEPTH_UNIT_MM, empty_arrays, read_shard, shard_folders, write_shard
from omote.datasets.pairs import draw_pairs, images_of
from omote.errors import OmoteError
from omote.head.shipped import shipped_head


def write_tiny(folder, seed=0, persons=3, images=5, size=32):
    rng = np.random.default_rng(seed)
    arrays = empty_arrays(persons, images, size, num_identity=100)
    arrays["rgb"][:] = rng.integers(0, 256, arrays["rgb"].shape)
    arrays["depth"][:] = rng.integers(-6000, 12000, arrays["depth"].shape)
    arrays["mask"][:, :, 4:-4, 4:-4] = 1
    arrays["arkit"][:] = rng.random(arrays["arkit"].shape)
    arrays["category"][:, 1:] = rng.integers(0, 7, (persons, images - 1))
    arrays["person"][:] = np.arange(persons)
    write_shard(folder, arrays, {"seed": seed})
    return arrays


@pytest.fixture
def shard(tmp_path):
    write_tiny(tmp_path / "shard_0000000")
    return read_shard(tmp_path / "shard_0000000")


def test_depth_survives_to_its_unit(tmp_path):
    arrays = write_tiny(tmp_path / "shard_0000000")
    images = images_of(read_shard(tmp_path / "shard_0000000"), 1, [2])
    np.testing.assert_allclose(images.depth_mm[0, 0].numpy(), arrays["depth"][1, 2] * DEPTH_UNIT_MM, rtol=1e-6)
    np.testing.assert_array_equal((images.rgb[0].permute(1, 2, 0).numpy() * 255).round(), arrays["rgb"][1, 2])


def rngs(seed, count):
    return [np.random.default_rng([seed, i]) for i in range(count)]


def test_a_batch_is_its_parts(shard):
    whole = draw_pairs([shard], rngs(4, 4), shipped_head(), targets_per_source=3)
    halves = [draw_pairs([shard], rngs(4, 4)[i : i + 2], shipped_head(), targets_per_source=3) for i in (0, 2)]
    for name in ("rgb", "depth_mm", "mask"):
        for images in ("source", "target"):
            joined = torch.cat([getattr(getattr(half, images), name) for half in halves])
            torch.testing.assert_close(getattr(getattr(whole, images), name), joined, rtol=0, atol=0)
    torch.testing.assert_close(whole.arkit, torch.cat([half.arkit for half in halves]))


def test_a_batch_is_a_function_of_its_seed(shard):
    a, b = (draw_pairs([shard], rngs(4, 2), shipped_head(), targets_per_source=3) for _ in range(2))
    torch.testing.assert_close(a.source.rgb, b.source.rgb)
    torch.testing.assert_close(a.target.depth_mm, b.target.depth_mm)
    other = draw_pairs([shard], rngs(5, 2), shipped_head(), targets_per_source=3)
    assert not torch.equal(a.target.rgb, other.target.rgb)


def test_targets_belong_to_their_source(shard):
    batch = draw_pairs([shard], rngs(0, 4), shipped_head(), targets_per_source=2, augment=False)
    every = torch.from_numpy(shard.rgb[:].astype(np.float32) / 255).permute(0, 1, 4, 2, 3)

    def owner(image):
        return int((every - image).abs().amax(dim=(2, 3, 4)).amin(dim=1).argmin())

    owners = [owner(image) for image in batch.source.rgb]
    assert [owner(image) for image in batch.target.rgb] == [o for o in owners for _ in range(2)]


def test_only_the_source_has_holes(shard):
    holes = cropped = 0
    for seed in range(24):  # one in ten is cropped visibly
        batch = draw_pairs([shard], rngs(seed, 4), shipped_head(), targets_per_source=2)
        for source, target in zip(batch.source.mask[:, 0], batch.target.mask[::2, 0], strict=True):
            rows, columns = torch.nonzero(target.amax(dim=1)), torch.nonzero(target.amax(dim=0))
            # A crop cuts straight and ends both alike, so the target stays a whole rectangle.
            assert float(target.sum()) == len(rows) * len(columns)
            assert float((source - target).max()) <= 0
            cropped += len(rows) * len(columns) < 24 * 24
            holes += float((target - source).sum()) > 0
        for images in (batch.source, batch.target):
            assert 0 <= float(images.rgb.min()) <= float(images.rgb.max()) <= 1
    assert holes > 0
    assert cropped > 0


def test_a_shard_appears_only_when_whole(tmp_path):
    (tmp_path / ".shard_0000000.partial").mkdir()
    (tmp_path / ".shard_0000000.partial/meta.json").write_text("{}")
    with pytest.raises(OmoteError, match="expected shard_"):
        shard_folders(tmp_path)


def test_a_cut_shard_is_one_line(tmp_path):
    write_tiny(tmp_path / "shard_0000000")
    path = tmp_path / "shard_0000000/rgb.npy"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(OmoteError, match="not a whole shard") as error:
        read_shard(tmp_path / "shard_0000000")
    assert "\n" not in str(error.value)

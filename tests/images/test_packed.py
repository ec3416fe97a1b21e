"""A folder of images is packed whole, once, and drawn from without surprise."""

import numpy as np
import pytest
from PIL import Image

from image_folders import make_images
from omote.errors import DatasetError, OutputError
from omote.images.packed import list_images, pack_images, read_packed


def test_classes_are_subfolders_and_captions_lie_beside(tmp_path):
    folder = make_images(tmp_path / "images", 4)
    listed = list_images(folder)
    assert listed.names == ("blue/001.png", "blue/003.png", "red/000.png", "red/002.png")
    assert (listed.classes, listed.labels) == (("blue", "red"), (0, 0, 1, 1))
    assert listed.captions[0] == "a blue disc"
    (folder / "metadata.jsonl").unlink()
    (folder / "red/002.txt").write_text("round\n")
    assert list_images(folder).captions == ("", "", "", "round")


def test_packed_pixels_are_the_files_own(tmp_path):
    folder = make_images(tmp_path / "images", 3, side=(32, 48))
    assert list(pack_images(folder, tmp_path / "packed", size=32)) == [1, 2, 3]
    packed = read_packed(tmp_path / "packed")
    for i, name in enumerate(list_images(folder).names):
        whole = np.asarray(Image.open(folder / name))
        np.testing.assert_array_equal(packed.crop(i), whole[:, 8:40])
    # Packed already: nothing is read again.
    assert list(pack_images(folder, tmp_path / "packed", size=32)) == [3]
    with pytest.raises(OutputError, match="holds something else"):
        list(pack_images(folder, tmp_path / "packed", size=16))


def test_crops_reach_both_ends_and_flips_are_half(tmp_path):
    make_images(tmp_path / "images", 1, side=(8, 24), classes=())
    ramp = np.broadcast_to(np.arange(24, dtype=np.uint8)[None, :, None], (8, 24, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "images/000.png")
    list(pack_images(tmp_path / "images", tmp_path / "packed", size=8))
    packed, rng = read_packed(tmp_path / "packed"), np.random.default_rng(0)
    crops = [packed.crop(0, rng, random_crop=True, flip=True) for _ in range(400)]
    assert {int(c.min()) for c in crops} == set(range(17))
    assert np.mean([c[0, 0, 0] > c[0, -1, 0] for c in crops]) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("broken", [b"", b"no image at all", None])
def test_a_broken_file_is_named_and_nothing_is_left(tmp_path, broken):
    folder = make_images(tmp_path / "images", 6)
    path = folder / "red/002.png"
    path.write_bytes(path.read_bytes()[:60] if broken is None else broken)
    with pytest.raises(DatasetError, match=r"red/002\.png: not a whole image") as error:
        list(pack_images(folder, tmp_path / "packed", size=32))
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_a_folder_without_images_and_a_cut_pack_are_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="found none"):
        list(pack_images(tmp_path / "empty", tmp_path / "packed", size=32))
    list(pack_images(make_images(tmp_path / "images", 3), tmp_path / "packed", size=32))
    pixels = tmp_path / "packed/pixels.bin"
    pixels.write_bytes(pixels.read_bytes()[:-7])
    with pytest.raises(DatasetError, match="not whole"):
        read_packed(tmp_path / "packed")


def test_images_beside_class_folders_are_ambiguous(tmp_path):
    folder = make_images(tmp_path / "images", 2)
    Image.new("RGB", (32, 32)).save(folder / "stray.png")
    with pytest.raises(DatasetError, match=r"stray\.png lies beside"):
        list_images(folder)

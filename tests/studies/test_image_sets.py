"""Two folders of images as sets: what is measured, that nothing but the images decides it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import omote
from omote.errors import CheckpointError, ConfigError, DatasetError, OutputError
from omote.evaluation import image_sets
from omote.evaluation.distribution import feature_statistics, frechet_distance, streamed_statistics
from omote.evaluation.features import FeatureExtractor, PerceptualDistance
from omote.studies.image_sets import ImageSuite


class _Moments(nn.Module):
    """Mean and deviation of each colour, in place of a network of minutes."""

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        return torch.cat([rgb.mean(dim=(2, 3)), rgb.std(dim=(2, 3))], dim=1)


@pytest.fixture
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def extractor(name: str, path: Path | None = None) -> FeatureExtractor:
        return FeatureExtractor(name=name, forward=_Moments(), size=16, classify=lambda x: (20 * x).softmax(dim=1))

    distance = PerceptualDistance(name="lpips_vgg16", stages=lambda x: [x + 0.1])
    monkeypatch.setattr(image_sets, "load_extractor", extractor)
    monkeypatch.setattr(image_sets, "load_perceptual", lambda name, path: distance)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str, float, int], Path]:
    def make(name: str, brightness: float, count: int = 12) -> Path:
        rng = np.random.default_rng(len(name))
        (tmp_path / name / "inner").mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(rng.normal(brightness, 40, (20 + i, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / ("inner" if i % 2 else ".") / f"{i:03d}.png")
        return tmp_path / name

    return make


@pytest.mark.usefixtures("_networks")
def test_a_folder_is_measured_and_shown_beside_published_numbers(
    folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = ("inception_v3=weights.safetensors", "lpips_vgg16=vgg.safetensors")
    suite = ImageSuite(
        generated=folder("made", 100), reference=folder("real", 130), features=features, sampler="ddim, 20 steps"
    )
    numbers = omote.evaluate(suite, out=tmp_path / "out")
    assert numbers["fd/inception_v3/generated"] > 0.01
    assert {
        f"{key}/inception_v3/generated" for key in ("kid", "kid_std", "precision", "recall", "is", "is_std")
    } <= set(numbers)
    assert numbers["diversity/lpips_vgg16/generated"] > 0
    assert numbers["perceptual_pairs/lpips_vgg16/generated"] > 0
    assert (numbers["count/generated_images"], numbers["count/kid_subset_size"]) == (12, 12)
    text = suite.summary(numbers)
    for said in (
        "12 images",
        "Resize: whole image stretched",
        "Sampler: ddim, 20 steps",
        "LDM-4 (200 steps)",
        "LDM-KL-8-G",
    ):
        assert said in text
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "inception_v3" in page
    assert "no FID" not in page
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["run/sampler"] == "ddim, 20 steps"
    # Nothing is measured twice, and a file more or fewer at a time changes nothing.
    assert omote.evaluate(suite, out=tmp_path / "out") == numbers
    monkeypatch.setattr("omote.studies.image_sets.PER_FILE", 5)
    monkeypatch.setattr("omote.evaluation.features.CHUNK", 3)
    again = omote.evaluate(suite, out=tmp_path / "again")
    assert again == pytest.approx(numbers, rel=1e-5)
    Image.new("RGB", (9, 9)).save(suite.generated / "new.png")
    with pytest.raises(OutputError, match="other settings"):
        omote.evaluate(suite, out=tmp_path / "out")


@pytest.mark.usefixtures("_networks")
def test_a_set_is_at_no_distance_from_itself_and_farther_from_a_brighter_one(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    plain, near, far = folder("a", 100), folder("bb", 104), folder("ccc", 180)
    found = [
        omote.evaluate(ImageSuite(generated=plain, reference=other), out=tmp_path / f"out_{other.name}")
        for other in (plain, near, far)
    ]
    distances = [numbers["fd/efficientnet_lite0/generated"] for numbers in found]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[0] < distances[1] < distances[2]
    assert [numbers["recall/efficientnet_lite0/generated"] for numbers in found][::2] == [1.0, 0.0]
    assert "efficientnet_lite0 (no FID)" in ImageSuite(generated=plain, reference=far).summary(found[2])


def test_an_image_that_shrinks_is_filtered_unless_it_is_asked_not_to() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    assert image_sets.resized(stripes, 16, "bilinear_antialiased").std() < 0.02
    assert image_sets.resized(stripes, 17, "bilinear").std() > 0.1
    wide = np.zeros((8, 32, 3), np.uint8)
    assert image_sets.resized(wide, 16, "bicubic_antialiased").shape == (1, 3, 16, 16)


def test_statistics_in_parts_are_the_statistics() -> None:
    x = np.random.default_rng(0).normal(size=(101, 7)).astype(np.float32)
    whole, parts = feature_statistics(x), streamed_statistics(lambda: (x[i : i + 10] for i in range(0, 101, 10)))
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=1e-6, atol=1e-8)
    assert frechet_distance(parts, whole) == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_compared_is_refused_in_one_line(folder: Callable[..., Path], tmp_path: Path) -> None:
    whole, few = folder("whole", 100), folder("few", 100, 3)
    for suite, line in (
        (ImageSuite(generated=tmp_path / "none", reference=whole), "none: expected a folder of images"),
        (ImageSuite(generated=few, reference=whole), "few: expected at least 5 images to compare as a set, got 3"),
    ):
        with pytest.raises(DatasetError, match=line):
            omote.evaluate(suite, out=tmp_path / "out")
    for features, line in ((("resnet",), "got 'resnet'"), ((), "got none"), (("lpips_vgg16=x",), "got lpips_vgg16=x")):
        with pytest.raises(ConfigError, match=line):
            omote.evaluate(ImageSuite(generated=whole, reference=whole, features=features), out=tmp_path / "out")
    for features, line in ((("inception_v3",), "give the path"), (("clip_vit_b32=no.safetensors",), "no such file")):
        with pytest.raises(CheckpointError, match=line):
            omote.evaluate(ImageSuite(generated=whole, reference=whole, features=features), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_networks")
def test_a_broken_image_is_named(folder: Callable[..., Path], tmp_path: Path) -> None:
    whole = folder("whole", 100)
    (whole / "004.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"004\.png: not a whole image"):
        omote.evaluate(ImageSuite(generated=whole, reference=whole), out=tmp_path / "out")

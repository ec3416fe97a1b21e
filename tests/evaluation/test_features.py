"""Feature networks: architectures by their published counts, files that are not them, batches, and what distances notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from omote.errors import CheckpointError
from omote.evaluation.distribution import feature_statistics, frechet_distance
from omote.evaluation.features import (
    PerceptualDistance,
    arcface_cut,
    load_extractor,
    load_perceptual,
)
from omote.evaluation.judges.weights import EFFICIENTNET_FILE, JudgeError, digest_of, locate
from omote.evaluation.networks.arcface import BLOCKS, TEMPLATE_PX, ArcFace
from omote.evaluation.networks.clip import ClipVitB32
from omote.evaluation.networks.efficientnet import EfficientNetLite0
from omote.evaluation.networks.inception import InceptionV3, _average
from omote.evaluation.networks.loading import load_checked
from omote.evaluation.networks.vgg import LpipsVgg16


@pytest.fixture
def _installed() -> None:
    try:
        locate([EFFICIENTNET_FILE])
    except JudgeError as error:
        pytest.skip(str(error))


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and running statistics that keep activations finite."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.is_floating_point():
            fan = max(tensor[0].numel(), 1) if tensor.ndim > 1 else 25
            tensor.normal_(0, fan**-0.5, generator=generator)
    return module.eval()


def landmarks(count: int, size: int = 64) -> Tensor:
    out = torch.rand(count, 68, 2, generator=torch.Generator().manual_seed(5)) * 4
    out[:, 36:42] += torch.tensor([0.36, 0.40]) * size
    out[:, 42:48] += torch.tensor([0.62, 0.41]) * size
    out[:, 30] += torch.tensor([0.48, 0.55]) * size
    out[:, 48] += torch.tensor([0.38, 0.70]) * size
    out[:, 54] += torch.tensor([0.60, 0.71]) * size
    out[:, 8] += torch.tensor([0.49, 0.90]) * size
    return out


# Published: Keras' "notop" Inception-V3 has 21,768,352 trainable weights and no scale in its normalisations (17,216 here);
# the classifier of 2015 has 1008 classes. CLIP's image tower and torchvision's VGG16 convolutions by their model cards.
@pytest.mark.parametrize(
    ("build", "count"),
    [
        (InceptionV3, 21_768_352 + 17_216 + 1008 * 2049),
        (ClipVitB32, 87_456_000 + 768 * 512),
        (LpipsVgg16, 14_714_688 + 1472),
        (EfficientNetLite0, 4_652_008),
        (lambda: ArcFace(BLOCKS["arcface_r50"]), 43_590_848),
        (lambda: ArcFace(BLOCKS["arcface_r100"]), 65_156_160),
    ],
    ids=["inception_v3", "clip", "vgg16", "efficientnet_lite0", "arcface_r50", "arcface_r100"],
)
def test_an_architecture_has_the_published_number_of_parameters(build: Callable[[], nn.Module], count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == count


def test_inceptions_average_leaves_padding_out() -> None:
    torch.testing.assert_close(_average(torch.full((1, 2, 5, 5), 3.0)), torch.full((1, 2, 5, 5), 3.0))


@pytest.mark.parametrize("name", ["inception_v3", "clip_vit_b32", "arcface_r50"])
def test_a_network_by_path_loads_and_does_not_depend_on_the_batch(name: str, tmp_path: Path) -> None:
    build = {"inception_v3": InceptionV3, "clip_vit_b32": ClipVitB32, "arcface_r50": lambda: ArcFace(BLOCKS[name])}
    path = tmp_path / "weights.safetensors"
    save_file(randomised(build[name]()).state_dict(), path)
    extractor = load_extractor(name, path)  # type: ignore[arg-type]
    rgb = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    whole = extractor(rgb, landmarks(8))
    assert whole.shape[1] == {"inception_v3": 2048}.get(name, 512)
    assert torch.isfinite(whole).all()
    one = torch.cat([extractor(rgb[i : i + 1], landmarks(8)[i : i + 1]) for i in (0, 7)])
    torch.testing.assert_close(one, whole[[0, 7]], rtol=1e-3, atol=1e-5)


def test_a_file_of_another_network_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(EfficientNetLite0().state_dict(), path)
    with pytest.raises(CheckpointError, match="not inception_v3") as caught:
        load_extractor("inception_v3", path)
    assert "\n" not in str(caught.value)
    state = {k: v.clone() for k, v in LpipsVgg16().state_dict().items()}
    state["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"features.0.weight: expected shape \(64, 3, 3, 3\), got shape \(64, 1"):
        load_checked(LpipsVgg16(), path, "lpips_vgg16")
    path.write_bytes(b"\x80\x02pickle")
    with pytest.raises(CheckpointError, match=r"convert a \.pth file"):
        load_extractor("inception_v3", path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_extractor("inception_v3", tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="give the path"):
        load_extractor("inception_v3")
    with pytest.raises(CheckpointError, match="give the path"):
        load_perceptual("lpips_vgg16")


def test_lpips_is_its_equation(tmp_path: Path) -> None:
    """Convolution by convolution in float64, places one by one."""
    network = randomised(LpipsVgg16())
    path = tmp_path / "lpips.safetensors"
    save_file(network.state_dict(), path)
    a, b = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    got = load_perceptual("lpips_vgg16", path)(a, b)
    state = {k: v.double() for k, v in network.state_dict().items()}

    def maps(x: Tensor) -> list[Tensor]:
        mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x, out = ((2 * x - 1).double() - mean.view(3, 1, 1)) / std.view(3, 1, 1), []
        for stage in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            x = torch.nn.functional.max_pool2d(x, 2) if out else x
            for k in stage:
                x = torch.conv2d(x, state[f"features.{k}.weight"], state[f"features.{k}.bias"], padding=1).clamp(min=0)
            out.append(x)
        return out

    for i in range(2):
        expected = 0.0
        for k, (p, q) in enumerate(zip(maps(a[i : i + 1]), maps(b[i : i + 1]), strict=True)):
            weight = state[f"lin{k}.model.1.weight"].flatten()
            p, q = p[0].flatten(1).T, q[0].flatten(1).T
            places = [float((weight * (u / u.norm() - v / v.norm()) ** 2).sum()) for u, v in zip(p, q, strict=True)]
            expected += float(np.mean(places))
        assert float(got[i]) == pytest.approx(expected, rel=1e-3)


def test_arcface_cut_puts_the_five_points_on_the_template() -> None:
    """A picture that is brightest at a point, moved by a known similarity, is brightest at the template's point."""
    turn = 0.5 * np.exp(0.2j)
    template = np.array(TEMPLATE_PX) @ [1, 1j]
    at = turn * template + (12 + 3j)
    five = torch.from_numpy(np.stack([at.real, at.imag], 1)).float()
    points = torch.zeros(1, 68, 2)
    points[0, 36:42], points[0, 42:48] = five[0], five[1]
    points[0, 30], points[0, 48], points[0, 54] = five[2], five[3], five[4]
    v, u = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5, indexing="ij")
    for k in range(5):
        spot = np.exp(-0.5 * ((u - at[k].real) ** 2 + (v - at[k].imag) ** 2) / 1.5**2)
        got = arcface_cut(torch.from_numpy(spot).float().expand(1, 3, -1, -1), points)[0, 0]
        row, column = divmod(int(got.argmax()), 112)
        assert (column + 0.5, row + 0.5) == pytest.approx(TEMPLATE_PX[k], abs=1.1)


@pytest.mark.usefixtures("_installed")
def test_installed_features_do_not_depend_on_the_batch_size() -> None:
    rgb = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    extractor = load_extractor("efficientnet_lite0")
    whole = extractor(rgb, landmarks(64, 32))
    for size in (1, 7):
        torch.testing.assert_close(extractor(rgb[:size], landmarks(64, 32)[:size]), whole[:size], rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("_installed")
def test_perceptual_distance_is_zero_of_equals_and_grows_with_noise() -> None:
    distance = load_perceptual("efficientnet_lite0")
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.random((3, 3, 48, 48))).float()
    small, large = (a + s * torch.from_numpy(rng.normal(size=a.shape)).float() for s in (0.02, 0.2))
    torch.testing.assert_close(distance(a, a), torch.zeros(3))
    assert (distance(a, small) < distance(a, large)).all()


@pytest.mark.usefixtures("_installed")
def test_frechet_distance_of_features_notices_noise_and_collapse() -> None:
    extractor = load_extractor("efficientnet_lite0")
    rng = np.random.default_rng(0)
    v, u = np.meshgrid(np.linspace(0, 1, 32), np.linspace(0, 1, 32), indexing="ij")
    waves = [
        [np.sin(2 * np.pi * (a * u + b * v) + c) / 2 + 0.5 for c in range(3)] for a, b in rng.uniform(1, 4, (24, 2))
    ]
    real = torch.from_numpy(np.array(waves)).float()
    noisy = (real + 0.2 * torch.from_numpy(rng.normal(size=real.shape)).float()).clamp(0, 1)
    of = {
        name: feature_statistics(extractor(x, landmarks(len(x), 32)).numpy())
        for name, x in {
            "a": real[:12],
            "b": real[12:],
            "noisy": noisy[12:],
            "collapsed": real[12:13].expand(12, -1, -1, -1),
        }.items()
    }
    plain = frechet_distance(of["a"], of["b"])
    assert frechet_distance(of["a"], of["noisy"]) > 1.5 * plain
    assert frechet_distance(of["a"], of["collapsed"]) > 1.5 * plain


def test_a_digest_sees_names_shapes_and_values() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    others = [{"a": torch.zeros(3, 2), "b": torch.ones(1)}, {"c": torch.zeros(2, 3), "b": torch.ones(1)},
              {"a": torch.zeros(2, 3), "b": torch.full((1,), 2.0)}]  # fmt: skip
    assert len({digest_of(t) for t in (base, *others)}) == 4
    assert digest_of(dict(reversed(base.items()))) == digest_of(base)


def test_unweighted_distance_of_a_known_map() -> None:
    """Opposite directions are 4 apart by their squares, orthogonal ones 2."""
    flipped = PerceptualDistance(name="x", stages=lambda x: [x])
    a = torch.zeros(1, 3, 1, 2)
    a[0, 0] = 1.0
    b = a.clone()
    b[0, :, 0, 0], b[0, :, 0, 1] = torch.tensor([-1.0, 0, 0]), torch.tensor([0.0, 1, 0])
    assert float(flipped(a, b)[0]) == pytest.approx((4 + 2) / 2)

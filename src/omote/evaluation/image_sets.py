"""Two sets of images of any size and number, compared in features of named networks.

Features of a set are computed for a few images at a time and stored in a file each (`save_features`); distances are computed from
these files. Results depend on the images and their order alone, not on the size of the batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors.numpy import load_file, save
from torch import Tensor, nn

from omote.errors import ConfigError
from omote.evaluation.distribution import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    streamed_statistics,
)
from omote.evaluation.features import (
    ExtractorName,
    FeatureExtractor,
    PerceptualDistance,
    PerceptualName,
    load_extractor,
    load_perceptual,
)
from omote.files import atomic_path

Resize = Literal["bilinear", "bilinear_antialiased", "bicubic_antialiased"]
# Networks of whole images; networks of faces need landmarks.
SET_NETWORKS: tuple[ExtractorName, ...] = ("efficientnet_lite0", "inception_v3", "clip_vit_b32")
LPIPS: PerceptualName = "lpips_vgg16"
# Image side for perceptual distances: that of published first stages.
PAIR_SIDE = 256


@dataclass(frozen=True, kw_only=True)
class ImageNetworks:
    """Networks that compare two sets of images.

    Attributes:
        extractors: extractors of features.
        perceptual: distance of two images, or None.
        device: device of the networks.
    """

    extractors: tuple[FeatureExtractor, ...]
    perceptual: PerceptualDistance | None
    device: torch.device


def load_image_networks(features: Sequence[str]) -> ImageNetworks:
    """Load networks by name.

    Args:
        features: ``NAME`` of an installed network, or ``NAME=PATH`` with the path of its weights.

    Raises:
        ConfigError: an unknown or repeated name, or no name.
        CheckpointError: a path is missing, or is not the network's.
        JudgeError: `efficientnet_lite0` is not installed.
    """
    known = (*SET_NETWORKS, LPIPS)
    paths: dict[str, Path | None] = {}
    for item in features:
        name, _, path = item.partition("=")
        if name not in known or name in paths:
            raise ConfigError(f"features: expected each of {', '.join(known)} once at most, got {item!r}")
        paths[name] = Path(path) if path else None
    if not paths.keys() - {LPIPS}:
        raise ConfigError(f"features: expected one of {', '.join(SET_NETWORKS)}, got {' '.join(features) or 'none'}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractors = tuple(load_extractor(name, paths[name]) for name in SET_NETWORKS if name in paths)
    perceptual = load_perceptual(LPIPS, paths[LPIPS]) if LPIPS in paths else None
    for extractor in extractors:
        assert isinstance(extractor.forward, nn.Module)
        extractor.forward.to(device)
    return ImageNetworks(extractors=extractors, perceptual=perceptual, device=device)


def resized(rgb: UInt8[np.ndarray, "h w 3"], size: int, resize: Resize) -> Float[Tensor, "1 3 {size} {size}"]:
    """A whole image as a square in [0, 1]; other shapes are stretched, as in FID's implementations.

    Args:
        rgb: image to resize.
        size: side of the square in pixels.
        resize: `bilinear` is pytorch-fid's filter, `bicubic_antialiased` close to clean-fid's; they differ when an image shrinks.
    """
    x = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255
    mode, _, filtered = resize.partition("_")
    return F.interpolate(x, (size, size), mode=mode, align_corners=False, antialias=bool(filtered)).clamp(0, 1)


def save_image_features(
    path: Path, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], networks: ImageNetworks, resize: Resize
) -> None:
    """Write the features of some images: an array per network, with a row per image.

    Args:
        path: path of the .safetensors file.
        images: images of any size.
        networks: networks that compute the features.
        resize: filter that resizes to a network's input.
    """
    out = {}
    for extractor in networks.extractors:
        assert extractor.size is not None
        seen = torch.cat([resized(image, extractor.size, resize) for image in images])
        out[extractor.name] = extractor(seen.to(networks.device)).cpu().numpy()
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(out))


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The features of a set of images.

    Attributes:
        files: files written by `save_image_features`, in the order of the images.
        count: number of images.
    """

    files: tuple[Path, ...]
    count: int

    def parts(self, network: str) -> Iterator[Float[np.ndarray, "n d"]]:
        """A network's features, file by file."""
        for path in self.files:
            yield load_file(path)[network]

    def chosen(self, network: str, most: int, seed: int) -> Float[np.ndarray, "n d"]:
        """A network's features of all images, or of a random subset, in random order."""
        order = np.random.default_rng(seed).permutation(self.count)[:most]
        place = np.full(self.count, -1)
        place[order] = np.arange(len(order))
        out, start = np.empty((0, 0), np.float32), 0
        for part in self.parts(network):
            if not out.size:
                out = np.empty((len(order), part.shape[1]), part.dtype)
            here = place[start : start + len(part)]
            out[here[here >= 0]] = part[here >= 0]
            start += len(part)
        return out


@dataclass(frozen=True, kw_only=True)
class SetDistances:
    """Settings of the comparison of two sets.

    Attributes:
        kid_subsets: number of random subsets of KID.
        kid_subset_size: number of images of each set in a subset.
        manifold_images: largest number of random images per set for precision and recall, which compare all pairs.
        seed: seed of all random choices.
    """

    kid_subsets: int = 100
    kid_subset_size: int = 1000
    manifold_images: int = 10_000
    seed: int = 0


def set_distances(
    generated: ImageSet, reference: ImageSet, extractor: FeatureExtractor, config: SetDistances, device: torch.device
) -> Mapping[str, float]:
    """Metrics of two sets, in one network's features.

    Args:
        generated: features of the generated images.
        reference: features of the reference images.
        extractor: extractor whose features the sets hold.
        config: settings of the comparison.
        device: device of the extractor.
    """
    name = extractor.name
    subsets = config.kid_subsets * config.kid_subset_size
    made, real = (s.chosen(name, max(subsets, config.manifold_images), config.seed) for s in (generated, reference))
    kernel = kernel_distance(
        real, made, num_subsets=config.kid_subsets, subset_size=config.kid_subset_size, seed=config.seed
    )
    inside = precision_recall(real[: config.manifold_images], made[: config.manifold_images])
    out = {
        f"fd/{name}": frechet_distance(
            *(streamed_statistics(lambda s=s: s.parts(name)) for s in (generated, reference))  # type: ignore[misc]
        ),
        f"kid/{name}": kernel.mean,
        f"kid_std/{name}": kernel.std,
        f"precision/{name}": inside.precision,
        f"recall/{name}": inside.recall,
    }
    if extractor.classify is not None:
        # Neighbouring images in a folder are similar, and the score uses parts of the set: the order must be random.
        score, std = inception_score(_probabilities(extractor, generated, config.seed, device))
        out |= {f"is/{name}": score, f"is_std/{name}": std}
    return out


def _probabilities(
    extractor: FeatureExtractor, images: ImageSet, seed: int, device: torch.device
) -> Float[np.ndarray, "n c"]:
    assert extractor.classify is not None
    with torch.no_grad():
        parts = [extractor.classify(torch.from_numpy(x).to(device)).cpu() for x in images.parts(extractor.name)]
    out: np.ndarray = torch.cat(parts).numpy()[np.random.default_rng(seed).permutation(images.count)]
    return out


def pair_distances(
    a: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    b: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    networks: ImageNetworks,
    resize: Resize,
) -> list[float]:
    """Perceptual distances of the images of two lists in pairs, both at `PAIR_SIDE`."""
    assert networks.perceptual is not None
    x, y = (torch.cat([resized(image, PAIR_SIDE, resize) for image in images]) for images in (a, b))
    return [float(value) for value in networks.perceptual(x, y)]


def described(resize: Resize) -> str:
    """Description of a resize filter."""
    assert resize in get_args(Resize)
    return "whole image stretched to the network's input, " + resize.replace("_", ", ")

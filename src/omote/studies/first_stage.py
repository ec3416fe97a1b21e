"""The reconstruction table: first stages on unseen persons, a row each (Rombach et al., CVPR 2022, table 8, and depth).

Every row is decoded from its latent alone, without a source image: what it shows went through the latent. The truth's mask
decides where colour and depth count; depth is what the network answers there, whatever its own mask says.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.errors import CheckpointError, ConfigError
from omote.evaluation import metrics
from omote.evaluation.distribution import feature_statistics, frechet_distance
from omote.evaluation.face_features import Extractor, face_features
from omote.evaluation.features import load_perceptual
from omote.evaluation.measure import EvaluationStep
from omote.files import atomic_path
from omote.geometry.depth import depth_normals
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.nets.perceptual import load_hed_vgg16
from omote.nets.quantiser import codebook_use
from omote.rgbd.autoencoder import QuantisedLatent, RgbdAutoencoder
from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, pack_images, reference_depth_mm, unpack
from omote.types import Rgbd

BATCH = 28
Distance = Callable[[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]], Float[Tensor, " b"]]


@dataclass(frozen=True, kw_only=True)
class FirstStageSuite:
    """What is measured.

    Attributes:
        population: the split must be "test" for numbers that are published; the size is each row's own.
        num_persons: each with seven expressions.
        perceptual: the file of `omote.nets.perceptual`, for a second perceptual distance; None leaves that out.
    """

    population: PopulationConfig
    num_persons: int = 100
    perceptual: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Rendered persons at one size."""

    images: list[Rgbd]
    landmarks_px: np.ndarray


def weights_folder(run: Path) -> Path:
    """Where a run's, an export's or a weights folder holds the autoencoder.

    Raises:
        CheckpointError: nowhere.
    """
    for folder in (run / "export/autoencoder", run / "autoencoder", run):
        if (folder / "config.json").is_file() and list(folder.glob("*.safetensors")):
            return folder
    raise CheckpointError(f"{run}: expected a run's folder with export/autoencoder, or a folder with an autoencoder")


def row_names(runs: Sequence[Path]) -> list[str]:
    """A row is named after its run's folder.

    Raises:
        ConfigError: two have one name.
    """
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise ConfigError(f"runs: expected folders of different names, got {', '.join(names)}")
    return names


def evaluate_first_stages(
    runs: Sequence[Path],
    config: FirstStageSuite,
    out: Path,
    *,
    extractor: Extractor | None = None,
    distances: Mapping[str, Distance] | None = None,
) -> Iterator[EvaluationStep]:
    """Measure into ``out``: ``rows/*.json`` as it goes, ``metrics.json`` and ``table.csv`` at the end.

    Args:
        runs: see `weights_folder`.
        config: the suite.
        out: folder of the results.
        extractor: of the features; `face_features` if None.
        distances: perceptual, by their keys; `perceptual_distances` if None.

    Raises:
        CheckpointError: a run has no autoencoder.
        JudgeError: the features' network is not installed.
    """
    names, folders = row_names(runs), [weights_folder(run) for run in runs]
    extractor = extractor or face_features()
    distances = perceptual_distances(config) if distances is None else distances
    (out / "rows").mkdir(parents=True, exist_ok=True)
    truths: dict[int, Truth] = {}
    rows: dict[str, dict[str, float | int | str]] = {}
    for done, (name, folder) in enumerate(zip(names, folders, strict=True)):
        # A row of other weights is another row.
        weights = next(iter(sorted(folder.glob("*.safetensors")))).read_bytes()
        path = out / "rows" / f"{name}.{hashlib.sha256(weights).hexdigest()[:16]}.json"
        if not path.exists():
            autoencoder = RgbdAutoencoder.from_pretrained(folder, low_cpu_mem_usage=False).eval()
            size = autoencoder.config.sample_size
            if size not in truths:
                truths[size] = render_truth(config, size)
            measured = {**facts(autoencoder), **measure(autoencoder, truths[size], extractor, distances)}
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(measured, indent=1) + "\n")
        rows[name] = json.loads(path.read_text())
        yield EvaluationStep(done=done + 1, total=len(names))
    write_table(rows, out)


def perceptual_distances(config: FirstStageSuite) -> dict[str, Distance]:
    """The one that is installed, and the one whose file is given."""
    installed = load_perceptual("efficientnet_lite0")
    distances: dict[str, Distance] = {f"perceptual_{installed.name}": installed}
    if config.perceptual is not None:
        network = load_hed_vgg16(config.perceptual)
        distances[network.KEY] = network.distance
    return distances


def render_truth(config: FirstStageSuite, size: int) -> Truth:
    """The persons, each with seven expressions."""
    population = replace(config.population, size=size, num_images=len(CATEGORIES))
    heads = population_heads(population.ict)
    people = (draw_person(population, index, heads) for index in range(config.num_persons))
    rendered = [(image, landmarks) for person in people for image, landmarks, _ in render_person(person, heads)]
    return Truth(images=[image for image, _ in rendered], landmarks_px=np.stack([at for _, at in rendered]))


def facts(autoencoder: RgbdAutoencoder) -> dict[str, float | int | str]:
    """What a row is, before anything is measured."""
    c = autoencoder.config
    side = c.sample_size // autoencoder.factor
    return {
        "f": autoencoder.factor,
        "regularisation": c.regularisation,
        "size_px": c.sample_size,
        "parameters": sum(p.numel() for p in autoencoder.parameters()),
        "latent_values": autoencoder.latent_channels * side**2,
        "learned_channels": c.learned_channels,
    }


@torch.no_grad()
def measure(
    autoencoder: RgbdAutoencoder, truth: Truth, extractor: Extractor, distances: Mapping[str, Distance]
) -> dict[str, float]:
    """A row's numbers, averaged over images."""
    x = pack_images(truth.images)
    decoded, indices = [], []
    for start in range(0, len(x), BATCH):
        posterior = autoencoder.encode(x[start : start + BATCH])
        decoded.append(autoencoder.decode(posterior.mode()))
        if isinstance(posterior, QuantisedLatent):
            indices.append(posterior.quantised.indices)
    y = torch.cat(decoded)
    rgb, _, shown = unpack(y)
    mask = np.stack([image.mask for image in truth.images])
    true_rgb = np.stack([image.rgb for image in truth.images])
    true_depth = np.stack([image.depth_mm for image in truth.images])
    reference = np.array([reference_depth_mm(image.camera) for image in truth.images], np.float32)
    depth = y[:, DEPTH][:, 0].numpy() * DEPTH_SCALE_MM + reference[:, None, None]
    colors = np.ascontiguousarray(rgb.permute(0, 2, 3, 1).numpy())
    mouth = metrics.box_mask(metrics.mouth_boxes(truth.landmarks_px), height=mask.shape[1], width=mask.shape[2])
    errors = metrics.depth_errors(depth, true_depth, mask)
    intrinsics = np.stack([image.camera.intrinsics for image in truth.images])
    normals, seen = depth_normals(true_depth, mask, intrinsics)
    answered, _ = depth_normals(depth, mask, intrinsics)
    overlap = (shown[:, 0].numpy() & mask).sum(axis=(1, 2)) / (shown[:, 0].numpy() | mask).sum(axis=(1, 2))
    per_image = {
        "color/psnr_db": metrics.psnr_db(colors, true_rgb, mask),
        "color/psnr_db_mouth": metrics.psnr_db(colors, true_rgb, mouth & mask),
        "color/ssim": metrics.ssim(colors, true_rgb, mask),
        "depth/mae_mm_metric": errors.mae_mm,
        "depth/rmse_mm_metric": errors.rmse_mm,
        "depth/normals_error_deg": metrics.normals_error_deg(answered, normals, seen),
        "mask/iou": overlap,
    }
    out = {key: metrics.mean_over_images(values) for key, values in per_image.items()}
    # Outside the head both are the grey that unpacking gives: neither features nor distances see other backgrounds.
    truly = (
        torch.from_numpy(np.where(mask[..., None], true_rgb, 0.5).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    )
    own, real = (feature_statistics(extractor.features(images.contiguous())) for images in (rgb, truly))
    out[f"color/fd_{extractor.name}"] = frechet_distance(own, real)
    for key, distance in distances.items():
        parts = [distance(a, b) for a, b in zip(rgb.split(BATCH), truly.split(BATCH), strict=True)]
        out[f"color/{key}"] = float(torch.cat(parts).mean())
    if autoencoder.quantiser is not None:
        use = codebook_use(torch.cat(indices), autoencoder.config.num_codes)
        out |= {"codebook/codes": float(autoencoder.config.num_codes), "codebook/share_used": use.share_used}
        out["codebook/perplexity"] = use.perplexity
    return out


def write_table(rows: Mapping[str, Mapping[str, float | int | str]], out: Path) -> None:
    """``table.csv`` with a row per first stage, and ``metrics.json`` with flat keys ``<metric>/<row>``."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *columns])
        for name, row in rows.items():
            values = [row.get(column, "") for column in columns]
            writer.writerow([name, *(f"{v:.5g}" if isinstance(v, float) else v for v in values)])
    flat = {f"{key}/{name}": value for name, row in rows.items() for key, value in row.items()}
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(flat, indent=2, sort_keys=True) + "\n")

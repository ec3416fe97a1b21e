"""The reconstruction table: first stages on unseen persons, a row each (Rombach et al., CVPR 2022, table 8, and depth).

Every row is decoded from its latent alone, without a source image. Colour and depth are compared inside the true mask; depth is
the network's output there, whatever its own mask is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.engine.weights import load_pretrained
from omote.errors import CheckpointError
from omote.evaluation import metrics
from omote.evaluation.catalogue import metric_of
from omote.evaluation.comparison import Comparison, RgbdArrays, stacked
from omote.evaluation.distribution import feature_statistics, frechet_distance
from omote.evaluation.features import FeatureExtractor, load_extractor, load_perceptual
from omote.evaluation.ground_truth import GroundTruth
from omote.evaluation.records import Row
from omote.head.shipped import population_heads
from omote.nets.perceptual import load_hed_vgg16
from omote.nets.quantiser import codebook_use
from omote.progress import Steps
from omote.rgbd.autoencoder import QuantisedLatent, RgbdAutoencoder
from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, pack_images, reference_depth_mm, unpack
from omote.studies.base import Results, Work
from omote.studies.suites import FirstStageSuite, row_names

BATCH = 28
Distance = Callable[[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]], Float[Tensor, " b"]]
# Metric of the catalogue → key under which it is written; neutral images are included here.
MEASURED = {
    "color/psnr_db": "color/psnr_db_all",
    "color/psnr_db_mouth": "color/psnr_db_mouth_all",
    "color/ssim": "color/ssim_all",
    **{key: key for key in ("depth/mae_mm_metric", "depth/rmse_mm_metric", "depth/normals_deg")},
}


def measure_first_stages(suite: FirstStageSuite, work: Work) -> Steps[Results]:
    """Measure each first stage into ``rows/``.

    Raises:
        CheckpointError: a run has no autoencoder.
        JudgeError: the features' network is not installed.
    """
    folders = {name: weights_folder(run) for name, run in zip(row_names(suite.runs), suite.runs, strict=True)}
    extractor, distances = load_extractor("face_id_mean_crop"), perceptual_distances(suite.perceptual)
    # Other weights make another row.
    items = {f"{name}.{_digest(folder)}": name for name, folder in folders.items()}

    @cache
    def truth(size: int) -> GroundTruth:
        return render_persons(suite.unseen(), suite.persons, size)

    def measure(item: str) -> dict[str, int | float]:
        autoencoder = load_pretrained(RgbdAutoencoder, folders[items[item]]).eval()
        return {
            **facts(autoencoder),
            **measured(autoencoder, truth(autoencoder.config.sample_size), extractor, distances),
        }

    found = yield from work.records("rows", list(items), measure)
    return Results(table={Row(items[item]): record for item, record in found.items()})


def weights_folder(run: Path) -> Path:
    """The autoencoder's folder inside the folder of a run, an export or weights.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (run / "export/autoencoder", run / "autoencoder", run):
        if (folder / "config.json").is_file() and list(folder.glob("*.safetensors")):
            return folder
    raise CheckpointError(f"{run}: expected a run's folder with export/autoencoder, or a folder with an autoencoder")


def _digest(folder: Path) -> str:
    return hashlib.sha256(min(folder.glob("*.safetensors")).read_bytes()).hexdigest()[:16]


def perceptual_distances(hed_vgg16: Path | None) -> dict[str, Distance]:
    """The installed perceptual distance and the one whose file is given, by their keys."""
    installed = load_perceptual("efficientnet_lite0")
    distances: dict[str, Distance] = {f"perceptual/{installed.name}_all": installed}
    if hed_vgg16 is not None:
        distances["perceptual/hed_vgg16_all"] = load_hed_vgg16(hed_vgg16).distance
    return distances


def render_persons(population: PopulationConfig, persons: int, size: int) -> GroundTruth:
    """Renders of the persons' expressions, one after the other, at one size."""
    population = replace(population, size=size)
    heads = population_heads(population.ict)
    people = (draw_person(population, index, heads) for index in range(persons))
    rendered = [r for person in people for r in render_person(person, heads)]
    images, landmarks, _ = zip(*rendered, strict=True)
    return GroundTruth(
        images=list(images), landmarks_px=np.stack(landmarks), landmarks_mm=np.zeros((len(images), 68, 3))
    )


def facts(autoencoder: RgbdAutoencoder) -> dict[str, int | float]:
    """Properties of a row's autoencoder."""
    c = autoencoder.config
    return {
        "model/f": autoencoder.factor,
        "model/vq": int(c.regularisation == "vq"),
        "model/size_px": c.sample_size,
        "model/parameters": sum(p.numel() for p in autoencoder.parameters()),
        "model/latent_values": autoencoder.latent_channels * (c.sample_size // autoencoder.factor) ** 2,
        "model/learned_channels": c.learned_channels,
    }


@torch.no_grad()
def measured(
    autoencoder: RgbdAutoencoder, truth: GroundTruth, extractor: FeatureExtractor, distances: Mapping[str, Distance]
) -> dict[str, int | float]:
    """A row's numbers, averaged over images."""
    x = pack_images(truth.images)
    decoded, indices = [], []
    for start in range(0, len(x), BATCH):
        posterior = autoencoder.encode(x[start : start + BATCH])
        decoded.append(autoencoder.decode(posterior.mode()))
        if isinstance(posterior, QuantisedLatent):
            indices.append(posterior.quantised.indices)
    y = torch.cat(decoded)

    rgb, _, mask = unpack(y)
    true = stacked(truth.images)
    reference = np.array([reference_depth_mm(image.camera) for image in truth.images], np.float32)
    depth = y[:, DEPTH][:, 0].numpy() * DEPTH_SCALE_MM + reference[:, None, None]
    shown = RgbdArrays(
        rgb=np.ascontiguousarray(rgb.permute(0, 2, 3, 1).numpy()), depth_mm=depth, mask=mask[:, 0].numpy()
    )
    intrinsics = np.stack([image.camera.intrinsics for image in truth.images])
    found = Comparison(shown=shown, true=true, source=true, intrinsics=intrinsics, landmarks_px=truth.landmarks_px)

    out: dict[str, int | float] = {"mask/iou": metrics.mean_over_images(metrics.mask_iou(shown.mask, true.mask))}
    for key, written in MEASURED.items():
        measure = metric_of(key).measure
        assert measure is not None, "these are metrics of images"
        out[written] = metrics.mean_over_images(measure(found))

    # Outside the head both images have the grey of unpacking: neither features nor distances see other backgrounds.
    grey = np.where(true.mask[..., None], true.rgb, 0.5).astype(np.float32)
    truly = torch.from_numpy(grey).permute(0, 3, 1, 2).contiguous()
    own, real = (feature_statistics(extractor(images.contiguous()).numpy()) for images in (rgb, truly))
    out[f"fd/{extractor.name}"] = frechet_distance(own, real)
    for key, distance in distances.items():
        parts = [distance(a, b) for a, b in zip(rgb.split(BATCH), truly.split(BATCH), strict=True)]
        out[key] = float(torch.cat(parts).mean())

    if autoencoder.quantiser is not None:
        use = codebook_use(torch.cat(indices), autoencoder.config.num_codes)
        out |= {"codebook/codes": autoencoder.config.num_codes, "codebook/share_used": use.share_used}
        out["codebook/perplexity"] = use.perplexity
    return out

"""A population's edits, encoded once: latents, motion images and conditions in files that map into memory.

Drawing pairs, moving faces and encoding images takes a processor about as long as the editor's own step, at every step of
every run. Here each person is captured ``variants`` times (exposure, noise, holes and crop drawn anew), and all of their
images become targets of each capture. A shard of edits has the name of the shard it was made of and appears when whole, so a
killed run goes on and several processes may share the work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from omote.datasets.cache import NO_CATEGORY, Shard, read_shard, shard_folders
from omote.datasets.pairs import Pick, draw_source, pairs_of
from omote.errors import ConfigError, OmoteError
from omote.head.model import HeadModel
from omote.progress import Step
from omote.rgbd.conditions.base import Condition, with_motion
from omote.rgbd.conditions.motion import NUM_CHANNELS, READ, READ_SIZE, SIZE, resized
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.train.edits import Edits, encoded

META = "edits.json"
# The part of a first stage's state that latents and their units come from; of an identity, the units alone.
ENCODER = ("stem", "encoder_blocks", "downsamplers", "to_latent", "quantiser", "latent_mean", "latent_std", "delta_std")


@dataclass(frozen=True, kw_only=True)
class EditShard:
    """N captures with K targets each.

    Attributes:
        source: scaled latents, half precision.
        delta: scaled differences, half precision.
        motion: what the denoiser reads of the motion images, at its size or the latents' if that is larger, half precision.
        geometry: depth and mask of the targets at `READ_SIZE`, half precision.
        category: index into `CATEGORIES`, or `NO_CATEGORY`.
        intensity: [0, 1].
        arkit: weights.
        identity: of the person's fitted head, in σ.
        landmarks: of the person at rest, pixels of an image of `IMAGE_SIZE`.
    """

    source: Float[np.ndarray, "n d h w"]
    delta: Float[np.ndarray, "n k d h w"]
    motion: Float[np.ndarray, "n k c m m"]
    geometry: Float[np.ndarray, "n k 2 r r"]
    category: Int[np.ndarray, "n k"]
    intensity: Float[np.ndarray, "n k"]
    arkit: Float[np.ndarray, "n k 52"]
    identity: Float[np.ndarray, "n i"]
    landmarks: Float[np.ndarray, "n 68 2"]


ARRAYS = tuple(field.name for field in fields(EditShard))


def motion_size(latent_size: int) -> int:
    """Pixels of a kept motion image's side: the source latent is moved by it, and images move at full size."""
    return min(SIZE, max(READ_SIZE, latent_size))


def fingerprint_of(autoencoder: FirstStage) -> str:
    """Of the encoder and the units that latents are in: what edits depend on, and the decoder does not change."""
    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        if name.partition(".")[0] in ENCODER:
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def encode_population(
    population: Path,
    autoencoder: FirstStage,
    head: HeadModel,
    folder: Path,
    *,
    variants: int = 1,
    seed: int = 0,
    unit_style: bool = True,
) -> Iterator[Step]:
    """Encode every person of a population into ``folder``; shards that are there are kept.

    Args:
        population: folder of rendered shards.
        autoencoder: whose latents.
        head: the head model that is fitted to the population.
        folder: of the edits; made if missing.
        variants: captures per person.
        seed: of everything drawn.
        unit_style: faces move by the units of people like them, not by the head model's alone.

    Raises:
        ConfigError: the folder holds edits of another autoencoder or other settings.
    """
    told = {"encoder": fingerprint_of(autoencoder), "variants": variants, "seed": seed, "unit_style": unit_style}
    shards = shard_folders(population)
    for number, path in enumerate(shards):
        yield Step(stage="encode", done=number, total=len(shards))
        target = folder / path.name
        if (target / META).exists():
            _check(target, told)
            continue
        _write(target, _encoded_shard(read_shard(path), autoencoder, head, variants, seed, unit_style), told)
    yield Step(stage="encode", done=len(shards), total=len(shards))


def _check(folder: Path, told: dict[str, Any]) -> None:
    found = json.loads((folder / META).read_text())
    if wrong := [key for key in told if found.get(key) != told[key]]:
        raise ConfigError(
            f"{folder}: holds edits of another {wrong[0]} (expected {told[wrong[0]]}, got {found.get(wrong[0])}); "
            f"give another folder"
        )


def _encoded_shard(
    shard: Shard, autoencoder: FirstStage, head: HeadModel, variants: int, seed: int, unit_style: bool
) -> dict[str, np.ndarray]:
    device, everyone = autoencoder.latent_std.device, np.arange(shard.num_images)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
    for person in range(shard.num_persons):
        for variant in range(variants):
            rng = np.random.default_rng([seed, int(shard.head[person]), int(shard.person[person]), variant])
            source = draw_source(shard, rng)
            pairs = pairs_of([Pick(shard=shard, person=person, source=source, targets=everyone, rng=rng)], head)
            edits = encoded(autoencoder, pairs, device, unit_style=unit_style)
            known = with_motion(edits.condition, edits.faces)
            if known.identity is None or known.geometry is None:
                raise OmoteError("a population's persons come with their fitted heads")
            values = {
                "source": edits.source[0].half(),
                "delta": edits.delta.half(),
                "motion": resized(known.motion[:, READ], motion_size(edits.source.shape[-1])).half(),
                "geometry": resized(known.geometry, READ_SIZE).half(),
                "category": pairs.category,
                "intensity": pairs.intensity,
                "arkit": pairs.arkit,
                "identity": known.identity[0],
                "landmarks": edits.landmarks_px[0],
            }
            for name, value in values.items():
                rows[name].append(value.cpu().numpy())
    return {name: np.stack(found) for name, found in rows.items()}


def _write(folder: Path, arrays: dict[str, np.ndarray], told: dict[str, Any]) -> None:
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(temporary / f"{name}.npy", array)
    (temporary / META).write_text(json.dumps(told) + "\n")
    try:
        temporary.rename(folder)
    except OSError:
        # Another process was faster.
        shutil.rmtree(temporary)
        if not folder.exists():
            raise


class EncodedEdits:
    """Batches of edits from what `encode_population` wrote."""

    def __init__(self, folder: Path, autoencoder: FirstStage, *, unit_style: bool = True) -> None:
        """Map every shard.

        Args:
            folder: of the edits.
            autoencoder: whose latents they must be.
            unit_style: how their faces must move.

        Raises:
            ConfigError: none is there, or they are another autoencoder's, or move otherwise.
            OmoteError: one is not whole.
        """
        found = sorted(path.parent for path in folder.glob(f"shard_*/{META}") if path.parent.suffix != ".partial")
        if not found:
            raise ConfigError(
                f"{folder}: expected encoded edits; make them with `omote encode POPULATION --out {folder}`"
            )
        self.shards = []
        for path in found:
            _check(path, {"encoder": fingerprint_of(autoencoder), "unit_style": unit_style})
            try:
                arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
            except (OSError, ValueError, EOFError) as error:
                raise OmoteError(f"{path}: not a whole shard ({error}); delete it and encode again") from None
            self.shards.append(EditShard(**arrays))

    def batch(self, step: int, seed: int, size: int, part: int, targets_per_source: int) -> Edits:
        """Part ``part`` of a step's edits, ``size`` of them: a function of its arguments and the shards.

        Raises:
            ConfigError: a part is not whole sources.
        """
        count, left = divmod(size, targets_per_source)
        if left or not count:
            raise ConfigError(
                f"engine.batch_size: a process and micro-batch gets {size} images, expected a multiple of "
                f"targets_per_source ({targets_per_source})"
            )
        sizes = np.array([len(shard.source) for shard in self.shards])
        rows: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
        for i in range(count):
            rng = np.random.default_rng([seed, step, part * count + i])
            shard = self.shards[rng.choice(len(sizes), p=sizes / sizes.sum())]
            capture, images = int(rng.integers(len(shard.source))), shard.delta.shape[1]
            chosen = rng.choice(images, targets_per_source, replace=images < targets_per_source)
            for name in ARRAYS:
                array = getattr(shard, name)
                once = name in ("source", "identity", "landmarks")
                rows[name].append(
                    np.repeat(array[capture][None], targets_per_source, 0) if once else array[capture][chosen]
                )
        found = {name: torch.from_numpy(np.concatenate(values)) for name, values in rows.items()}
        return Edits(
            source=found["source"].float(),
            delta=found["delta"].float(),
            condition=_condition(found),
            landmarks_px=found["landmarks"],
            faces=None,
        )


def _condition(found: dict[str, Tensor]) -> Condition:
    named = found["category"] != NO_CATEGORY
    every = torch.ones_like(named)
    read = found["motion"].float()
    motion = read.new_zeros(len(read), NUM_CHANNELS, *read.shape[-2:])
    motion[:, READ] = read
    return Condition(
        category=found["category"].clamp_min(0),
        intensity=found["intensity"],
        arkit=found["arkit"],
        has_category=named,
        has_arkit=every,
        motion=motion,
        geometry=found["geometry"].float(),
        has_geometry=every,
        identity=found["identity"],
        has_identity=every,
    )

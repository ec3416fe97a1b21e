"""A cache of a population's latent pairs and conditions, encoded once, in memory-mapped files.

Drawing pairs, rendering motion images and encoding takes a CPU about as long as a training step of the editor, in every step of
every run. For the cache, each person is captured ``variants`` times (with other exposure, noise, holes and crop), and all of
their images become targets of each capture. A shard of latent pairs has the name of its source shard, and is written
atomically, so a killed run continues and several processes may share the work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omote.datasets.cache import NO_CATEGORY, Shard, read_shard, shard_folders
from omote.datasets.pair_source import num_sources
from omote.datasets.pairs import Pick, draw_source, pairs_of
from omote.errors import ConfigError, DatasetError
from omote.files import atomic_folder, reading
from omote.head.expressions import CATEGORIES
from omote.head.model import HeadModel
from omote.progress import Step
from omote.rgbd.conditions.base import Condition, Kind
from omote.rgbd.conditions.kinds import KINDS
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.train.latent_pairs import LatentPairs, encode_batch

META = "edits.json"
# The part of a first stage's state that latents and their units come from; of an `IdentityStage`, the units alone.
ENCODER = ("stem", "encoder_blocks", "downsamplers", "to_latent", "quantiser", "latent_mean", "latent_std", "delta_std")
# A shard is a file per array: scaled ``source`` latents and differences ``delta`` in half precision, ``landmarks`` of the person
# at rest, and the tensors of every kind of condition (`Kind.rows`) as ``<kind>.<tensor>``. Arrays have a row per capture and
# target, but these have a row per capture.
PER_CAPTURE = ("source", "landmarks")


def fingerprint_of(autoencoder: FirstStage) -> str:
    """Hash of the encoder and the latents' units, on which latent pairs depend, and which training the decoder keeps."""
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
    kinds: Collection[type[Kind]] = KINDS,
) -> Iterator[Step]:
    """Encode every person of a population into ``folder``; existing shards are kept.

    Args:
        population: folder of rendered shards.
        autoencoder: the first stage.
        head: the head model that is fitted to the population.
        folder: folder of the latent pairs; made if missing.
        variants: number of captures per person.
        seed: seed of all random choices.
        unit_style: whether faces move in their own style of units, instead of the head model's units alone.
        kinds: kinds of condition to store.

    Raises:
        ConfigError: the folder contains latent pairs of another autoencoder or other settings.
    """
    made_of: dict[str, Any] = {
        "encoder": fingerprint_of(autoencoder),
        "variants": variants,
        "seed": seed,
        "unit_style": unit_style,
        "kinds": [kind.name for kind in kinds],
    }
    shards = shard_folders(population)
    for number, path in enumerate(shards):
        yield Step(stage="encode", done=number, total=len(shards))
        target = folder / path.name
        if (target / META).exists():
            _check(target, made_of)
            continue
        _write(target, _encoded_shard(read_shard(path), autoencoder, head, variants, seed, unit_style, kinds), made_of)
    yield Step(stage="encode", done=len(shards), total=len(shards))


def _check(folder: Path, made_of: Mapping[str, Any]) -> None:
    with reading(folder / META, DatasetError, "damaged", f"delete {folder} and encode again"):
        found = dict(json.loads((folder / META).read_text()))
    if wrong := [key for key in made_of if found.get(key) != made_of[key]]:
        raise ConfigError(
            f"{folder}: holds edits of another {wrong[0]} (expected {made_of[wrong[0]]}, got {found.get(wrong[0])}); "
            f"give another folder"
        )


def _encoded_shard(
    shard: Shard,
    autoencoder: FirstStage,
    head: HeadModel,
    variants: int,
    seed: int,
    unit_style: bool,
    kinds: Collection[type[Kind]],
) -> dict[str, np.ndarray]:
    device, everyone = autoencoder.latent_std.device, np.arange(shard.num_images)
    captures: list[dict[str, Tensor]] = []
    for person in range(shard.num_persons):
        for variant in range(variants):
            rng = np.random.default_rng([seed, int(shard.head[person]), int(shard.person[person]), variant])
            source = draw_source(shard, rng)
            pairs = pairs_of([Pick(shard=shard, person=person, source=source, targets=everyone, rng=rng)], head)
            edits = encode_batch(autoencoder, pairs, device, unit_style=unit_style, kinds=kinds).with_motion()
            capture = {
                "source": edits.source[0].half(),
                "delta": edits.delta.half(),
                "landmarks": edits.landmarks_px[0],
            }
            for value in edits.condition.values():
                compact = value.compact(edits.source.shape[-1])
                capture |= {f"{value.name}.{name}": tensor for name, tensor in compact.rows().items()}
            captures.append(capture)
    return {name: np.stack([capture[name].cpu().numpy() for capture in captures]) for name in captures[0]}


def _write(folder: Path, arrays: dict[str, np.ndarray], made_of: Mapping[str, Any]) -> None:
    with atomic_folder(folder) as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        (temporary / META).write_text(json.dumps(made_of) + "\n")


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Check that arrays fit each other, and that conditions are valid numbers.

    Raises:
        ValueError: they do not.
    """
    count, targets, *latent = arrays["delta"].shape
    if not arrays["delta"].size or list(arrays["source"].shape) != [count, *latent] or len(latent) != 3:
        raise ValueError(f"source is {arrays['source'].shape}, delta {arrays['delta'].shape}")
    for name, array in arrays.items():
        rows = (count,) if name in PER_CAPTURE else (count, targets)
        if array.shape[: len(rows)] != rows or array.dtype.kind not in "fib":
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
        # Images and latents are too large to check, and networks accept any values.
        if array.ndim <= 3 and not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite")
        if array.dtype.kind == "i" and not np.isin(array, range(NO_CATEGORY, len(CATEGORIES))).all():
            raise ValueError(f"{name} is out of range")


class CachedLatentPairs:
    """Batches of edits from what `encode_population` wrote."""

    def __init__(
        self,
        folder: Path,
        autoencoder: FirstStage,
        *,
        unit_style: bool = True,
        kinds: Collection[type[Kind]] = KINDS,
    ) -> None:
        """Map every shard.

        Args:
            folder: folder of the edits.
            autoencoder: the first stage that they must be encoded by.
            unit_style: motion of the faces that they must hold.
            kinds: kinds of condition to read.

        Raises:
            ConfigError: no edits, or edits of another autoencoder or with another motion.
            DatasetError: a shard is damaged, or lacks one of the kinds.
        """
        found = sorted(path.parent for path in folder.glob(f"shard_*/{META}") if path.parent.suffix != ".partial")
        if not found:
            raise ConfigError(
                f"{folder}: expected encoded edits; make them with `omote encode POPULATION --out {folder}`"
            )
        self.kinds = tuple(kinds)
        self.shards: list[dict[str, np.ndarray]] = []
        names = [*PER_CAPTURE, "delta", *(f"{kind.name}.{field.name}" for kind in kinds for field in fields(kind))]
        for path in found:
            _check(path, {"encoder": fingerprint_of(autoencoder), "unit_style": unit_style})
            with reading(path, DatasetError, "not a whole shard", "delete it and encode again"):
                arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in names}
                _check_arrays(arrays)
                self.shards.append(arrays)

    @property
    def num_edits(self) -> int:
        """Number of edits: captures times targets."""
        return sum(shard["delta"].shape[0] * shard["delta"].shape[1] for shard in self.shards)

    def batch(self, step: int, seed: int, size: int, part: int, targets_per_source: int) -> LatentPairs:
        """Part ``part`` of a step's edits, ``size`` of them: a function of its arguments and the shards.

        Raises:
            ConfigError: a part is not whole sources.
        """
        count = num_sources(size, targets_per_source)
        sizes = np.array([len(shard["source"]) for shard in self.shards])
        rows: list[dict[str, np.ndarray]] = []
        for i in range(count):
            rng = np.random.default_rng([seed, step, part * count + i])
            shard = self.shards[rng.choice(len(sizes), p=sizes / sizes.sum())]
            capture, images = int(rng.integers(len(shard["source"]))), shard["delta"].shape[1]
            chosen = rng.choice(images, targets_per_source, replace=images < targets_per_source)
            arrays = {name: array[capture] for name, array in shard.items()}
            rows.append(
                {
                    n: a[chosen] if n not in PER_CAPTURE else np.repeat(a[None], len(chosen), 0)
                    for n, a in arrays.items()
                }
            )
        found = {name: torch.from_numpy(np.concatenate([row[name] for row in rows])) for name in rows[0]}
        found = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
        values = (
            kind(**{field.name: found[f"{kind.name}.{field.name}"] for field in fields(kind)}) for kind in self.kinds
        )
        return LatentPairs(
            source=found["source"],
            delta=found["delta"],
            condition=Condition(tuple(values), size),
            landmarks_px=found["landmarks"],
            faces=None,
        )

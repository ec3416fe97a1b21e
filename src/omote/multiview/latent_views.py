"""A population's views as latents, encoded once, so that denoisers train on them without a first stage in every step.

Encoding costs a fifth of a training step of candidate 1, and two thirds of candidate 2's, whose encoder convolves a volume. The
views of a population do not change from step to step, so each is encoded once. A shard of latents has the name of its source
shard and is written atomically: a killed run continues, and several processes may share the work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.datasets.cache import read_kind, shard_folders
from omote.datasets.view_shards import ViewShard
from omote.errors import ConfigError, DatasetError
from omote.files import atomic_folder, reading
from omote.multiview.data import sets_of
from omote.multiview.denoiser import depth_maps
from omote.multiview.first_stage import ViewFirstStage
from omote.multiview.voxels import VoxelEncoder, points_of_views
from omote.progress import Step

META = "views.json"
LATENTS = ("source", "change", "depth")
KEYS = ("person", "head")
PERSONS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class LatentViews:
    """Latents of persons before and after an edit, in scaled units, with the depth maps of the source views."""

    source: Float[Tensor, "b v d h w"]
    target: Float[Tensor, "b v d h w"]
    depth: Float[Tensor, "b v k h w"]

    def to(self, device: torch.device) -> LatentViews:
        """The same on a device."""
        return LatentViews(source=self.source.to(device), target=self.target.to(device), depth=self.depth.to(device))


@dataclass(frozen=True, kw_only=True)
class ViewEncoders:
    """The frozen networks between views and latents.

    Attributes:
        first_stage: first stage of the views.
        encoder: encoder from 3D points to the same latents, which then gives the source's latents (candidate 2); if None, the
            source views are encoded (candidate 1).
    """

    first_stage: ViewFirstStage
    encoder: VoxelEncoder | None

    @torch.no_grad()
    def __call__(
        self, source: Float[Tensor, "b v 5 s s"], target: Float[Tensor, "b v 5 s s"], device: torch.device
    ) -> LatentViews:
        """Latents of packed views before and after an edit."""
        for network in (self.first_stage, self.encoder):
            if isinstance(network, nn.Module):
                network.to(device)
        source, target = source.to(device), target.to(device)
        z, moved = self.encoded(torch.cat([source, target])).chunk(2)
        before = self.source(source, z)
        return LatentViews(source=before, target=before + (moved - z), depth=depth_maps(source, z.shape[-1]))

    @torch.no_grad()
    def encoded(self, x: Float[Tensor, "b v 5 s s"]) -> Float[Tensor, "b v d h w"]:
        """The first stage's latents of packed views."""
        return self.first_stage.encoded(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    @torch.no_grad()
    def source(self, x: Float[Tensor, "b v 5 s s"], z: Float[Tensor, "b v d h w"]) -> Float[Tensor, "b v d h w"]:
        """What the denoiser gets of a person at rest: the first stage's latents, or the encoder's, with its errors."""
        if self.encoder is None:
            return z
        found: Tensor = self.encoder(points_of_views(x, self.encoder.rig))
        return found

    def fingerprint(self) -> str:
        """Hash of the networks' weights, on which the latents depend."""
        digest = hashlib.sha256()
        for network in (self.first_stage, self.encoder):
            if isinstance(network, nn.Module):
                for name, tensor in sorted(network.state_dict().items()):
                    digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def encode_views(population: Path, encoders: ViewEncoders, folder: Path) -> Iterator[Step]:
    """Encode every face of a population of view shards into ``folder``; existing shards are kept.

    Args:
        population: folder of view shards.
        encoders: the networks.
        folder: folder of the latents; made if missing.

    Raises:
        ConfigError: the folder contains latents of other networks.
        DatasetError: a shard is damaged.
    """
    made_of, shards = encoders.fingerprint(), shard_folders(population)
    for number, path in enumerate(shards):
        yield Step(stage="encode", done=number, total=len(shards))
        target = folder / path.name
        if (target / META).exists():
            _check(target, made_of)
            continue
        arrays = _encoded(read_kind(ViewShard, path), encoders)
        with atomic_folder(target) as temporary:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            (temporary / META).write_text(json.dumps({"networks": made_of}) + "\n")
    yield Step(stage="encode", done=len(shards), total=len(shards))


def _encoded(shard: ViewShard, encoders: ViewEncoders) -> dict[str, np.ndarray]:
    """Arrays of a shard: source and depth per person, change per person and image, in half precision."""
    rows: list[dict[str, np.ndarray]] = []
    for first in range(0, shard.num_persons, PERSONS_AT_ONCE):
        persons = range(first, min(first + PERSONS_AT_ONCE, shard.num_persons))
        faces = [sets_of(shard, [(person, image) for person in persons]).x for image in range(shard.num_images)]
        z = torch.stack([encoders.encoded(face) for face in faces], dim=1)
        source, depth = encoders.source(faces[0], z[:, 0]), depth_maps(faces[0], z.shape[-1])
        change = z - z[:, :1]
        rows.append({name: t.half().numpy() for name, t in (("source", source), ("change", change), ("depth", depth))})
    found = {name: np.concatenate([row[name] for row in rows]) for name in LATENTS}
    return found | {name: np.array(getattr(shard, name)) for name in KEYS}


def _check(folder: Path, made_of: str) -> None:
    with reading(folder / META, DatasetError, "damaged", f"delete {folder} and encode again"):
        found = dict(json.loads((folder / META).read_text()))
    if found.get("networks") != made_of:
        raise ConfigError(
            f"{folder}: holds latents of other networks (expected {made_of}, got {found.get('networks')}); "
            "give another folder"
        )


class EncodedViews:
    """What `encode_views` wrote, mapped into memory.

    Args:
        folder: folder of the latents.
        encoders: networks that must have encoded them.

    Raises:
        ConfigError: there are no latents, or latents of other networks.
        DatasetError: a shard is damaged.
    """

    def __init__(self, folder: Path, encoders: ViewEncoders) -> None:
        found = sorted(path.parent for path in folder.glob(f"shard_*/{META}") if path.parent.suffix != ".partial")
        if not found:
            raise ConfigError(
                f"{folder}: expected encoded views; make them with `omote encode POPULATION --out {folder} "
                "--autoencoder FIRST_STAGE`"
            )
        made_of = encoders.fingerprint()
        self._folder, self._rows = folder, {}
        for path in found:
            _check(path, made_of)
            with reading(path, DatasetError, "not a whole shard", "delete it and encode again"):
                arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in (*LATENTS, *KEYS)}
                if arrays["change"].ndim != 6 or len({len(array) for array in arrays.values()}) != 1:
                    raise ValueError(f"source is {arrays['source'].shape}, change {arrays['change'].shape}")
            for row, key in enumerate(zip(*(arrays[name].tolist() for name in KEYS), strict=True)):
                self._rows[key] = (arrays, row)

    _rows: dict[tuple[int, int], tuple[Mapping[str, np.ndarray], int]]

    @property
    def num_edits(self) -> int:
        """Number of faces with an expression."""
        return sum(arrays["change"].shape[1] - 1 for arrays, _ in self._rows.values())

    def edit(self, shard: ViewShard, row: int, image: int) -> LatentViews:
        """Latents of a person of the population at rest and in one of the images, as a batch of one.

        Raises:
            ConfigError: the person has not been encoded.
        """
        key = (int(shard.person[row]), int(shard.head[row]))
        if key not in self._rows:
            raise ConfigError(
                f"{self._folder}: lacks person {key[0]} of the population; run the same `omote encode` again"
            )
        arrays, place = self._rows[key]
        source = torch.from_numpy(np.array(arrays["source"][place], np.float32))[None]
        change = torch.from_numpy(np.array(arrays["change"][place, image], np.float32))[None]
        depth = torch.from_numpy(np.array(arrays["depth"][place], np.float32))[None]
        return LatentViews(source=source, target=source + change, depth=depth)


def joined_latents(parts: Sequence[LatentViews]) -> LatentViews:
    """Latents of several persons as one batch."""
    return LatentViews(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})

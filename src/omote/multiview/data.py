"""Batches of view sets from a population, with their ground truth and with the faults of generated images.

A network trained on perfect renders alone fails on images from a diffusion model. Most sets are therefore blurred, shifted in
depth and tinted, with independent faults in each view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from omote.datasets.cache import DEPTH_UNIT_MM, read_kind, shard_folders
from omote.datasets.pair_source import MOST_PERSONS
from omote.datasets.population import PopulationConfig
from omote.datasets.tar_shards import TarShards, is_tar_shards
from omote.datasets.view_shards import ViewShard, render_views
from omote.geometry.rig import Rig
from omote.head.model import HeadModel
from omote.multiview.basis import FaceFamily
from omote.rgbd.codec import pack

REFRESH_STEPS = 200
FAULTY_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class ViewSets:
    """A batch of view sets as tensors.

    Attributes:
        x: packed views (`omote.rgbd.codec`).
        category: expression category, as an index into `CATEGORIES`.
        intensity: intensity of the expression, [0, 1].
        arkit: ARKit weights of the expression.
        person: index of the person in the population.
        head: index of the person's head family.
        identity: identity coefficients in the person's family, σ.
        pose: head pose, rig_from_canonical.
    """

    x: Float[Tensor, "b v 5 s s"]
    category: Int[Tensor, "b"]
    intensity: Float[Tensor, "b"]
    arkit: Float[Tensor, "b 52"]
    person: Int[Tensor, "b"]
    head: Int[Tensor, "b"]
    identity: Float[Tensor, "b i"]
    pose: Float[Tensor, "b 4 4"]

    def canonical(self, families: Sequence[FaceFamily]) -> Float[Tensor, "b n 3"]:
        """Ground-truth vertices of the face in the canonical frame."""
        rows = [
            families[int(head)].vertices(identity.numpy(), arkit.numpy())
            for head, identity, arkit in zip(self.head, self.identity, self.arkit, strict=True)
        ]
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def posed(self, families: Sequence[FaceFamily]) -> Float[Tensor, "b n 3"]:
        """Ground-truth vertices of the face in the rig frame."""
        return self.canonical(families) @ self.pose[:, :3, :3].transpose(1, 2) + self.pose[:, None, :3, 3]


def sets_of(shard: ViewShard, faces: Sequence[tuple[int, int]]) -> ViewSets:
    """View sets of some faces of a shard, given as (person, image)."""
    rows, images = (np.array(column) for column in zip(*faces, strict=True))
    shape = shard.rgb.shape[2:5]

    def each(name: str) -> np.ndarray:
        return np.stack([np.asarray(getattr(shard, name)[p, k]) for p, k in faces])

    rgb = torch.from_numpy(each("rgb").astype(np.float32) / 255).flatten(0, 1).permute(0, 3, 1, 2)
    depth = torch.from_numpy(each("depth").astype(np.float32) * DEPTH_UNIT_MM).flatten(0, 1)[:, None]
    mask = torch.from_numpy(each("mask").astype(np.float32)).flatten(0, 1)[:, None]
    return ViewSets(
        x=pack(rgb, depth, mask).view(len(faces), shape[0], -1, *shape[1:]),
        category=torch.from_numpy(np.array(shard.category[rows, images])),
        intensity=torch.from_numpy(np.array(shard.intensity[rows, images])),
        arkit=torch.from_numpy(np.array(shard.arkit[rows, images])),
        person=torch.from_numpy(np.array(shard.person[rows])),
        head=torch.from_numpy(np.array(shard.head[rows])),
        identity=torch.from_numpy(np.array(shard.identity[rows])),
        pose=torch.from_numpy(np.array(shard.pose[rows, images])),
    )


def joined(parts: Sequence[ViewSets]) -> ViewSets:
    """View sets of several shards as one batch."""
    return ViewSets(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in ViewSets.__dataclass_fields__}
    )


class ViewSource:
    """View sets from a population in any form, as `omote.datasets.pair_source.PairSource` gives pairs.

    Args:
        population: a folder of view shards, where shards added during the run are found at the next refresh; a folder of
            tars or a file of their URLs; or a config with a rig, whose persons are rendered as they are drawn.
        heads: head models of the population.
        allow_pipe: whether to run the commands that a file of URLs lists.
    """

    def __init__(
        self, population: Path | PopulationConfig, heads: Sequence[HeadModel], *, allow_pipe: bool = False
    ) -> None:
        self.population, self.heads = population, heads
        self._mapped: dict[Path, ViewShard] = {}
        self.tars: TarShards[ViewShard] | None = None
        if isinstance(population, PopulationConfig):
            self.shards = [ViewShard(**render_views(population, range(2), heads))]
        elif is_tar_shards(population):
            self.tars = TarShards(ViewShard, population, allow_pipe=allow_pipe)
            self.shards = [self.tars.first()]
        else:
            self.shards = self._refreshed(population)

    @property
    def rig(self) -> Rig:
        """The camera rig of the views."""
        return self.shards[0].rig

    @property
    def image_size(self) -> int:
        """Side of a view, pixels."""
        return int(self.shards[0].rgb.shape[3])

    @property
    def persons(self) -> list[tuple[ViewShard, int]]:
        """All persons of the available shards."""
        return [(shard, row) for shard in self.shards for row in range(shard.num_persons)]

    def drawn(
        self, step: int, seed: int, size: int, part: int, parts: int
    ) -> list[tuple[ViewShard, int, np.random.Generator]]:
        """Persons in part ``part`` of a step, each with its own generator; determined by the arguments and the shards."""
        if isinstance(self.population, Path) and self.tars is None and step % REFRESH_STEPS == 0:
            self.shards = self._refreshed(self.population)
        out = []
        persons = self.persons
        for place in range(part * size, (part + 1) * size):
            rng = np.random.default_rng([seed, step, place])
            if isinstance(self.population, PopulationConfig):
                index = int(rng.integers(MOST_PERSONS))
                out.append((ViewShard(**render_views(self.population, [index], self.heads)), 0, rng))
            elif self.tars is not None:
                out.append((self.tars.person(step * size * parts + place, seed), 0, rng))
            else:
                out.append((*persons[int(rng.integers(len(persons)))], rng))
        return out

    def _refreshed(self, population: Path) -> list[ViewShard]:
        folders = shard_folders(population)
        self._mapped |= {path: read_kind(ViewShard, path) for path in folders if path not in self._mapped}
        return [self._mapped[path] for path in folders]


def with_faults(
    x: Float[Tensor, "b v 5 s s"], rng: np.random.Generator, share: float = FAULTY_SHARE
) -> Float[Tensor, "b v 5 s s"]:
    """Views with errors like those of decoded samples: blur, which moves outlines too; smooth depth errors; and tints.

    Args:
        x: packed views.
        rng: random number generator.
        share: share of the sets that get faults; a random camera colour is applied to all sets.
    """
    count, views, channels, size = x.shape[:4]
    flat = x.flatten(0, 1)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32))

    def per_view(value: Tensor) -> Tensor:
        return value.repeat_interleave(views, dim=0)

    strength = per_view((draw(0.0, 1.0, count, 1, 1, 1) < share).float() * draw(0.0, 1.0, count, 1, 1, 1))
    gain = per_view(
        torch.exp(draw(-0.3, 0.25, count, 1, 1, 1) * draw(0.0, 1.0, count, 1, 1, 1) + draw(-0.07, 0.07, count, 3, 1, 1))
    )
    inside = (flat[:, 4:] + 1) / 2
    rgb = ((flat[:, :3] + 1) / 2 * gain).clamp(0, 1) * 2 - 1
    rgb = rgb * inside
    flat = torch.cat([rgb, flat[:, 3:]], dim=1)
    # Blur as from a latent: views at half or quarter resolution, blended in by the strength of the fault.
    coarse = torch.where(
        per_view(draw(0.0, 1.0, count, 1, 1, 1) < 0.5),
        F.interpolate(F.avg_pool2d(flat, 2), size=(size, size), mode="bilinear", align_corners=False),
        F.interpolate(F.avg_pool2d(flat, 4), size=(size, size), mode="bilinear", align_corners=False),
    )
    flat = torch.lerp(flat, coarse, strength)
    field = torch.from_numpy(rng.standard_normal((count * views, 4, 4, 4)).astype(np.float32))
    field = F.interpolate(field, size=(size, size), mode="bicubic", align_corners=False)
    fine = torch.from_numpy(rng.standard_normal((count * views, 4, size // 8, size // 8)).astype(np.float32))
    field = field + 0.5 * F.interpolate(fine, size=(size, size), mode="bilinear", align_corners=False)
    scale = torch.tensor([0.05, 0.05, 0.05, 0.01]).view(1, 4, 1, 1)
    flat = torch.cat([flat[:, :4] + strength * scale * field, flat[:, 4:]], dim=1)
    return flat.view(count, views, channels, size, size)

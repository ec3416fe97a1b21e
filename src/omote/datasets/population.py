"""A seeded population of persons, expressions, cameras, lights and skins, unlimited and reproducible.

Person i of a split is a pure function of (seed, split, i), so any range of persons can be rendered on any machine and in any
order. The split is part of the random generator's entropy, so training never draws a test person, whatever the seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from omote.datasets.cache import DEPTH_UNIT_MM, empty_arrays, write_shard
from omote.datasets.tar_shards import SUFFIX, write_index, write_tar_shard
from omote.errors import ConfigError, DatasetError
from omote.files import reading
from omote.geometry.camera import FRONT_DISTANCE_MM, FRONT_FIELD_MM, FRONT_TARGET_MM, orbit_camera, project, transform
from omote.geometry.rig import Rig
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.model import HeadModel
from omote.head.rest_face import FIRST_INNER_LANDMARK, FittedFace, fit_face
from omote.progress import Steps
from omote.rendering.appearance import Appearance, paint, random_appearance
from omote.rendering.rgbd import render_head
from omote.rendering.shade import Light, random_light
from omote.shards.mapping import Executor, Here, map_shards
from omote.shards.worker import Loss, ShardDone
from omote.types import Camera, Expression, Rgbd

Split = Literal["train", "validation", "test", "tuning"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "tuning")

# Probability that a pair's source is the person at rest.
REST_SHARE = 0.8
# Random stream for the fits at rest: noise of the scan's depth and landmarks.
FIT_STREAM = 17
DEPTH_NOISE_MM = 0.8
LANDMARK_NOISE_MM = 1.5


@dataclass(frozen=True, kw_only=True)
class PopulationConfig:
    """Configuration of a population.

    Attributes:
        seed: random seed of the population.
        split: split of the persons; splits never share a person.
        size: side length of the square images, in pixels.
        num_images: number of images per person; the first shows the person at rest.
        ict: path of ICT-FaceKit, or None for the shipped head alone.
        ict_share: share of persons drawn from ICT-FaceKit.
        rig: camera rig that captures every face, for multi-view shards (`omote.datasets.view_shards`); None for single-camera
            shards.
        pose_deg, pose_mm: largest rotation and translation of a head from the canonical pose in front of a rig, which simulate
            alignment errors.
    """

    seed: int = 0
    split: Split = "train"
    size: int = 128
    num_images: int = 8
    ict: Path | None = None
    ict_share: float = 0.5
    rig: Rig | None = None
    pose_deg: float = 0.0
    pose_mm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Person:
    """One member of a population.

    Attributes:
        index: index of the person within the split.
        head: index of the person's head model in the population's list.
        identity: identity coefficients, in σ.
        appearance: appearance of skin, eyes, brows and hair.
        light: lighting of the capture.
        camera: camera of the capture.
        expressions: expression of each image; the first is the face at rest.
    """

    index: int
    head: int
    identity: Float[np.ndarray, "i"]
    appearance: Appearance
    light: Light
    camera: Camera
    expressions: tuple[Expression, ...]


def draw_identity(head: HeadModel, rng: np.random.Generator) -> Float[np.ndarray, "i"]:
    """Draw plausible identity coefficients: σ .8 clipped at 2.2 (unclipped draws at 1 σ look like caricatures)."""
    scale = 0.8 if head.name == "ict" else 0.75
    return np.clip(scale * rng.standard_normal(head.num_identity), -2.2, 2.2).astype(np.float32)


def draw_camera(rng: np.random.Generator, size: int) -> Camera:
    """Draw a camera near the standard camera, varied by slightly more than the alignment error."""
    yaw, pitch = np.clip(np.deg2rad(6.0) * rng.standard_normal(2), -0.35, 0.35)
    return orbit_camera(
        size=size,
        yaw_rad=float(yaw),
        pitch_rad=float(pitch * 0.8),
        roll_rad=float(np.deg2rad(1.5) * rng.standard_normal()),
        distance_mm=FRONT_DISTANCE_MM * float(np.exp(rng.normal(0, 0.05))),
        field_mm=FRONT_FIELD_MM * float(np.exp(rng.normal(0, 0.015))),
        target_mm=FRONT_TARGET_MM + rng.normal(0, 2.5, 3),
    )


def draw_person(config: PopulationConfig, index: int, heads: Sequence[HeadModel]) -> Person:
    """Person ``index`` of a population."""
    rng = np.random.default_rng([config.seed, SPLITS.index(config.split), index])
    head = int(rng.random() < config.ict_share) if len(heads) > 1 else 0
    identity = draw_identity(heads[head], rng)
    appearance, light, camera = random_appearance(rng), random_light(rng), draw_camera(rng, config.size)
    # Every category once, in a random order per person, then random categories.
    order = [CATEGORIES[i] for i in 1 + rng.permutation(len(CATEGORIES) - 1)]
    while len(order) < config.num_images - 1:
        order.append(CATEGORIES[rng.integers(len(CATEGORIES))])
    wanted = ["neutral", *order[: config.num_images - 1]]
    return Person(
        index=index,
        head=head,
        identity=identity,
        appearance=appearance,
        light=light,
        camera=camera,
        expressions=tuple(draw_expression(c, rng) for c in wanted),
    )


def render_person(
    person: Person, heads: Sequence[HeadModel], expressions: Sequence[Expression] | None = None
) -> Iterator[tuple[Rgbd, Float[np.ndarray, "68 2"], Float[np.ndarray, "v 3"]]]:
    """Render a person's images: (image, projected landmarks in pixels, vertices in mm), one per expression."""
    head = heads[person.head]
    albedo = paint(head, person.appearance)
    rest = head.vertices(person.identity)
    for expression in expressions if expressions is not None else person.expressions:
        assert expression.arkit is not None
        used = np.flatnonzero(expression.arkit)
        vertices = rest + np.tensordot(expression.arkit[used], head.expression_mm[used], 1)
        image = render_head(
            head, vertices, person.camera, albedo=albedo, appearance=person.appearance, light=person.light
        )
        yield image, project(person.camera, head.landmarks(vertices))[:, :2], vertices


def fit_as_found(
    person: Person, heads: Sequence[HeadModel], image: Rgbd, vertices: Float[np.ndarray, "v 3"]
) -> FittedFace:
    """Fit the population's first head model to a person's depth, with landmarks as noisy as detected ones.

    Args:
        person: the person, whose index seeds the noise.
        heads: head models of the population.
        image: RGB-D image of the person at rest.
        vertices: vertices of the person's own head in the image, in mm.
    """
    rng = np.random.default_rng([FIT_STREAM, person.index])
    depth = image.depth_mm + DEPTH_NOISE_MM * rng.random() * rng.standard_normal(image.depth_mm.shape)
    landmarks = heads[person.head].landmarks(vertices) + LANDMARK_NOISE_MM * rng.standard_normal((68, 3))
    landmarks[:FIRST_INNER_LANDMARK] = np.nan
    return fit_face(heads[0], replace(image, depth_mm=depth.astype(np.float32)), landmarks)


def render_persons(
    config: PopulationConfig, indices: Sequence[int], heads: Sequence[HeadModel]
) -> dict[str, np.ndarray]:
    """Render persons into the arrays of a shard (`omote.datasets.cache`)."""
    arrays = empty_arrays(len(indices), config.num_images, config.size, heads[0].num_identity)
    for row, index in enumerate(indices):
        person = draw_person(config, index, heads)
        reference = float(transform(person.camera.cam_from_world, FRONT_TARGET_MM[None])[0, 2])
        arrays["person"][row] = index
        arrays["head"][row] = person.head
        for k, (image, landmarks, vertices) in enumerate(render_person(person, heads)):
            if k == 0:
                fit = fit_as_found(person, heads, image, vertices)
                arrays["fit_identity"][row], arrays["fit_expression"][row] = fit.identity, fit.expression
                arrays["fit_camera"][row] = fit.camera.cam_from_world
                arrays["intrinsics"][row] = person.camera.intrinsics
            relative = np.where(image.mask, image.depth_mm - reference, 0) / DEPTH_UNIT_MM
            arrays["rgb"][row, k] = np.round(image.rgb * 255)
            arrays["depth"][row, k] = np.round(np.clip(relative, -32767, 32767))
            arrays["mask"][row, k] = image.mask
            arrays["landmarks"][row, k] = landmarks
            arrays["arkit"][row, k] = person.expressions[k].arkit
            arrays["category"][row, k] = CATEGORIES.index(person.expressions[k].category)
            arrays["intensity"][row, k] = person.expressions[k].intensity
    return arrays


@dataclass(frozen=True, kw_only=True)
class PersonShard:
    """A range of persons.

    Attributes:
        path: path of the shard, a tar if it ends in ``.tar``.
        start: index of the first person.
        stop: index after the last person.
    """

    path: Path
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class ShardRenderer:
    """Renders shards of persons (`omote.shards.mapping`); an existing shard is kept.

    Attributes:
        config: configuration of the population.
        heads: head models of the population.
    """

    config: PopulationConfig
    heads: Sequence[HeadModel]

    def __call__(self, shard: PersonShard, lost: Mapping[int, Loss]) -> Steps[int]:
        """Render a shard, and return its number of persons."""
        yield from ()  # a person is no item: none is expected to fail
        config, persons = self.config, range(shard.start, shard.stop)
        if shard.path.exists():
            return len(persons)
        if config.rig is None:
            arrays = render_persons(config, persons, self.heads)
        else:
            from omote.datasets.view_shards import render_views

            arrays = render_views(config, persons, self.heads)
        meta = {
            "seed": config.seed,
            "split": config.split,
            "start": shard.start,
            "stop": shard.stop,
            "size": config.size,
        }
        write = write_tar_shard if shard.path.suffix == SUFFIX else write_shard
        write(shard.path, arrays, meta)
        return len(persons)


def make_population(
    config: PopulationConfig,
    heads: Sequence[HeadModel],
    out: Path,
    *,
    num_persons: int,
    persons_per_shard: int = 100,
    executor: Executor | None = None,
    tars: bool = False,
) -> Iterator[int]:
    """Render a population into shards under ``out``; yields the number of persons done after each shard.

    Existing shards are kept, so an interrupted run resumes where it stopped.

    Args:
        config: configuration of the population.
        heads: head models from which persons are drawn; the first is fitted to every person.
        out: folder of the shards; created if missing.
        num_persons: number of persons, which are the first of the split.
        persons_per_shard: number of persons per shard.
        executor: where the shards are rendered; if None, in this process.
        tars: whether to write WebDataset tars (`omote.datasets.tar_shards`).

    Raises:
        ConfigError: ``out`` holds persons that are divided into other shards.
    """
    out.mkdir(parents=True, exist_ok=True)
    suffix = SUFFIX if tars else ""
    shards = [
        PersonShard(
            path=out / f"shard_{start:07d}{suffix}", start=start, stop=min(start + persons_per_shard, num_persons)
        )
        for start in range(0, num_persons, persons_per_shard)
    ]
    _check_division(out, shards)
    total = 0
    for event in map_shards(ShardRenderer(config=config, heads=heads), shards, executor or Here()):
        if isinstance(event, ShardDone):
            total += event.result
            yield total
    if tars:
        write_index(out, {shard.path.name: shard.stop - shard.start for shard in shards})


def _check_division(out: Path, shards: Sequence[PersonShard]) -> None:
    """Persons must not be in two shards, as when a population grows and is divided anew.

    Raises:
        ConfigError: a shard in ``out`` is none of those that are wanted.
    """
    wanted = {shard.path.name: (shard.start, shard.stop) for shard in shards}
    for path in sorted(out.glob("shard_*[0-9]/meta.json")):
        with reading(path, DatasetError, "damaged", f"delete {path.parent} and render again"):
            meta = json.loads(path.read_text(encoding="utf-8"))
            found = int(meta["start"]), int(meta["stop"])
        if wanted.get(path.parent.name) != found:
            raise ConfigError(
                f"{path.parent}: holds persons {found[0]} to {found[1] - 1} of a population that is divided otherwise; give "
                "another folder, or as many persons as before"
            )

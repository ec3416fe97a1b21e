"""Rendered persons on disk: memory-mapped shards from which training draws pairs.

Rendering a person costs more than a training step on a small machine, so persons are rendered once and read many times.
A shard holds P persons × K images (image 0 is the person at rest). All arrays are plain ``.npy`` files, which can be memory
mapped and read by any tool. Depth is int16, in hundredths of a millimetre from the head's reference plane, never 8 bits.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from omote.errors import DatasetError
from omote.files import atomic_folder, reading
from omote.head.expressions import ARKIT_NAMES, CATEGORIES
from omote.head.model import HeadModel
from omote.head.rest_face import FittedFace, RestFace
from omote.types import Camera

DEPTH_UNIT_MM = 0.01
NO_CATEGORY = -1  # category index of an expression outside the seven categories, as occurs in datasets
FIT_ARRAYS = ("fit_identity", "fit_expression", "fit_camera", "intrinsics")
ARRAYS = ("rgb", "depth", "mask", "landmarks", "arkit", "category", "intensity", "person", "head", *FIT_ARRAYS)


class PersonArrays(ABC):
    """Persons stored as the array fields of a dataclass; the first axis of every array is the person."""

    person: Int[np.ndarray, "p"]

    @property
    def num_persons(self) -> int:
        """Number of persons (P)."""
        return len(self.person)

    @classmethod
    @abstractmethod
    def checked(cls, arrays: Mapping[str, np.ndarray]) -> Any:
        """Check the arrays and build an instance of this class from them.

        Raises:
            ValueError: the arrays' shapes or types do not match, or a value is unusable for networks; pixels may have any value.
        """


Kind = TypeVar("Kind", bound=PersonArrays)


@dataclass(frozen=True, kw_only=True)
class Shard(PersonArrays):
    """A shard of P persons × K images of s × s pixels.

    Attributes:
        rgb: colours of the images, scaled to [0, 255].
        depth: depth relative to the head's reference plane, in units of `DEPTH_UNIT_MM`.
        mask: head mask, 1 on the head.
        landmarks: projections of the 68 landmarks, in pixels.
        arkit: ARKit weights of the expression in each image.
        category: index of the expression's category in `CATEGORIES`, or `NO_CATEGORY`.
        intensity: intensity of the expression, in [0, 1].
        person: index of the person in its population.
        head: index of the person's own head model in the population's list.
        fit_identity: identity coefficients of the population's first head model, fitted to the person at rest as to a scan
            (`FittedFace`).
        fit_expression: ARKit weights of that fit.
        fit_camera: camera pose (cam_from_world) of that fit.
        intrinsics: intrinsics of the person's camera.
    """

    rgb: UInt8[np.ndarray, "p k s s 3"]
    depth: Int[np.ndarray, "p k s s"]
    mask: UInt8[np.ndarray, "p k s s"]
    landmarks: Float[np.ndarray, "p k 68 2"]
    arkit: Float[np.ndarray, "p k 52"]
    category: Int[np.ndarray, "p k"]
    intensity: Float[np.ndarray, "p k"]
    person: Int[np.ndarray, "p"]
    head: Int[np.ndarray, "p"]
    fit_identity: Float[np.ndarray, "p i"]
    fit_expression: Float[np.ndarray, "p 52"]
    fit_camera: Float[np.ndarray, "p 4 4"]
    intrinsics: Float[np.ndarray, "p 3 3"]

    def face(self, person: int, head: HeadModel) -> RestFace:
        """The face of a person at rest, from the fit of the population's first head model."""
        size = self.rgb.shape[2]
        camera = Camera(
            intrinsics=np.array(self.intrinsics[person], np.float64),
            cam_from_world=np.array(self.fit_camera[person], np.float64),
            width=size,
            height=size,
        )
        fit = FittedFace(
            head=head,
            identity=np.array(self.fit_identity[person]),
            expression=np.array(self.fit_expression[person]),
            camera=camera,
        )
        return fit.rest()

    @property
    def num_images(self) -> int:
        """Number of images per person (K)."""
        return self.rgb.shape[1]

    @classmethod
    def checked(cls, arrays: Mapping[str, np.ndarray]) -> Shard:
        """See `PersonArrays.checked`."""
        persons, images, size = arrays["rgb"].shape[:3]
        check_arrays(arrays, empty_arrays(persons, images, size, arrays["fit_identity"].shape[-1]))
        return cls(**arrays)


def empty_arrays(num_persons: int, num_images: int, size: int, num_identity: int) -> dict[str, np.ndarray]:
    """Empty arrays for a shard; ``num_identity`` is the number of identity modes of the head model fitted to every person."""
    p, k = num_persons, num_images
    return {
        "rgb": np.zeros((p, k, size, size, 3), np.uint8),
        "depth": np.zeros((p, k, size, size), np.int16),
        "mask": np.zeros((p, k, size, size), np.uint8),
        "landmarks": np.zeros((p, k, 68, 2), np.float32),
        "arkit": np.zeros((p, k, len(ARKIT_NAMES)), np.float32),
        "category": np.zeros((p, k), np.int64),
        "intensity": np.zeros((p, k), np.float32),
        "person": np.zeros(p, np.int64),
        "head": np.zeros(p, np.int64),
        "fit_identity": np.zeros((p, num_identity), np.float32),
        "fit_expression": np.zeros((p, len(ARKIT_NAMES)), np.float32),
        "fit_camera": np.tile(np.eye(4), (p, 1, 1)),
        "intrinsics": np.tile(np.eye(3), (p, 1, 1)),
    }


def write_shard(folder: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, object]) -> None:
    """Write a shard; it appears under its final name only once it is complete.

    Raises:
        OutputError: the shard cannot be written.
    """
    with atomic_folder(folder) as temporary:
        for name, values in arrays.items():
            np.save(temporary / f"{name}.npy", values)
        (temporary / "meta.json").write_text(json.dumps(dict(meta), indent=1, sort_keys=True) + "\n")


def read_shard(folder: Path) -> Shard:
    """Map a shard into memory.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    return read_kind(Shard, folder)


def read_kind(kind: type[Kind], folder: Path) -> Kind:
    """Map a shard of any kind into memory.

    Raises:
        DatasetError: a file is missing or damaged, or the shard is of another kind.
    """
    with reading(folder, DatasetError, "not a whole shard", "delete it and make it again"):
        shard: Kind = kind.checked({name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names_of(kind)})
    return shard


def names_of(kind: type[PersonArrays]) -> tuple[str, ...]:
    """Names of the arrays in a kind of shard."""
    return tuple(field.name for field in fields(kind))  # type: ignore[arg-type]


def check_arrays(arrays: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> None:
    """Check shapes and types against those of ``like``, and reject values that networks cannot handle.

    Raises:
        ValueError: an array has the wrong shape or type, or holds an unusable value.
    """
    for name, wanted in like.items():
        if arrays[name].shape != wanted.shape or arrays[name].dtype.kind != wanted.dtype.kind:
            raise ValueError(
                f"{name} is {arrays[name].dtype} {arrays[name].shape}, expected {wanted.dtype} {wanted.shape}"
            )
    if not arrays["rgb"].size:
        raise ValueError("no images")
    for name, wanted in like.items():
        if wanted.dtype.kind == "f" and not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    known = range(NO_CATEGORY, len(CATEGORIES))
    if not np.isin(arrays["category"], known).all() or np.min(arrays["head"]) < 0:
        raise ValueError("category or head out of range")


def shard_folders(folder: Path) -> list[Path]:
    """Complete shards in a folder, sorted.

    Raises:
        DatasetError: the folder has no complete shard.
    """
    found = sorted(p.parent for p in folder.glob("shard_*/meta.json"))
    if not found:
        raise DatasetError(
            f"{folder}: expected shard_* folders; make them with `omote population --out {folder}` or `omote data render`"
        )
    return found

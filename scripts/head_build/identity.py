"""Random heads from MakeHuman's macro and sculpt targets, aligned, with eyes and lips repaired one by one."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from head_build.makehuman import BaseMesh, read_target

RACES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = ("child", "young", "old")
LEVELS = ("min", "average", "max")
SCULPT_FOLDERS = ("head", "cheek", "chin", "eyes", "eyebrows", "forehead", "mouth", "nose", "ears", "neck", "asym")
# Posture and gaze of the whole head, fantasy shapes, and what would slide the face over the skull.
SKIPPED = ("head-trans", "head-angle", "neck-trans", "measure-", "ear-shape-pointed", "asymm-", "head-scale-depth",
           "ear-trans-down", "ear-trans-up", "mouth-trans-in", "mouth-trans-out", "nose-trans-in", "nose-trans-out",
           "nose-septumangle", "eye-push")  # fmt: skip
# Opposite ends of one axis: the draw's sign chooses the file.
OPPOSITES = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
             ("compress", "uncompress"))  # fmt: skip
SCULPT_SIGMA = 0.30
SCULPT_LIMIT = 0.75
ASYM_SIGMA = 0.13
SIDE_SIGMA = 0.06  # left against right of a two-sided axis
# Axes that look odd long before their end.
TAMED = {"chin-triangle": 0.5, "head-fat": 0.8, "head-age": 0.6, "nose-greek": 0.7, "nose-hump": 0.8, "eye-corner": 0.7,
         "eye-epicanthus": 0.8, "nose-volume": 0.6, "cheek-volume": 0.7, "eye-bag": 0.8, "eye-scale": 0.5,
         "mouth-scale": 0.7, "head-scale": 0.6, "head-back": 0.5, "ear-wing": 0.7, "neck": 0.5, "mouth-angles": 0.5,
         "eye-height": 0.7, "nose-scale-depth": 0.7, "mouth-dimples": 0.5, "eye-trans": 0.7, "nose-flaring": 0.7,
         "eye-eyefold": 0.8, "laugh-lines": 0.7, "chin-cleft": 0.6, "ear-lobe": 0.7}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Everything a draw mixes, over the kept vertices.

    Attributes:
        universal: (sex, age, muscle, weight, v, 3).
        race: (race, sex, age, v, 3).
        sculpt: per axis (negative end, positive end), each (v, 3).
        names: of the sculpt axes.
    """

    universal: np.ndarray
    race: np.ndarray
    sculpt: list[tuple[np.ndarray, np.ndarray]]
    names: list[str]


def load_axes(base: BaseMesh, data: Path, kept: np.ndarray) -> Axes:
    """Read all targets, restricted to the base vertices ``kept``."""
    macro = data / "mpfb2/targets/macrodetails"

    def target(path: Path) -> np.ndarray:
        return read_target(path, len(base.vertices_mm))[kept].astype(np.float32)

    universal = np.stack([
        target(macro / f"universal-{sex}-{age}-{muscle}muscle-{weight}weight.target.gz")
        for sex, age, muscle, weight in itertools.product(SEXES, AGES, LEVELS, LEVELS)
    ]).reshape(2, 3, 3, 3, len(kept), 3)  # fmt: skip
    race = np.stack([
        target(macro / f"{race}-{sex}-{age}.target.gz") for race, sex, age in itertools.product(RACES, SEXES, AGES)
    ]).reshape(3, 2, 3, len(kept), 3)  # fmt: skip

    files: dict[str, Path] = {}
    for folder in SCULPT_FOLDERS:
        for path in sorted((data / "mpfb2/targets" / folder).glob("*.target.gz")):
            stem = path.name.removesuffix(".target.gz")
            if not any(s in stem for s in SKIPPED):
                files[stem] = path
    zero = np.zeros((len(kept), 3), np.float32)
    sculpt, names, done = [], [], set()
    for stem, path in files.items():
        if stem in done:
            continue
        positive = None
        for low, high in OPPOSITES:
            if stem.endswith(f"-{low}") and stem[: -len(low)] + high in files:
                positive = stem[: -len(low)] + high
        if positive is None and any(
            stem.endswith(f"-{high}") and stem[: -len(high)] + low in files for low, high in OPPOSITES
        ):
            continue  # comes with its other end
        done |= {stem, positive}
        names.append(stem)
        sculpt.append((target(path), target(files[positive])) if positive else (zero, target(path)))
    return Axes(universal=universal, race=race, sculpt=sculpt, names=names)


def draw(axes: Axes, rng: np.random.Generator) -> np.ndarray:
    """Offsets (v, 3) of one random adult (a tenth are older children)."""
    sex = np.clip(rng.choice([rng.normal(0.1, 0.12), rng.normal(0.9, 0.12)]), 0, 1)
    sex_w = np.array([1 - sex, sex])
    age = rng.uniform(0.0, 0.75)
    age_w = np.array([0.0, 1 - age, age])
    if rng.uniform() < 0.1:
        child = rng.uniform(0.1, 0.5)
        age_w = np.array([child, 1 - child, 0.0])

    def level(sigma: float) -> np.ndarray:
        x = np.clip(rng.normal(0.0, sigma), -0.8, 0.8)
        return np.array([max(-x, 0), 1 - abs(x), max(x, 0)])

    race_w = rng.dirichlet([0.55, 0.55, 0.7])
    out = np.einsum("s,a,m,w,samwvc->vc", sex_w, age_w, level(0.3), level(0.3), axes.universal, optimize=True)
    out += np.einsum("r,s,a,rsavc->vc", race_w, sex_w, age_w, axes.race, optimize=True)
    shared: dict[str, float] = {}
    for name, (negative, positive) in zip(axes.names, axes.sculpt, strict=True):
        both = re.sub(r"^[lr]-", "", name)
        tame = next((f for key, f in TAMED.items() if key in name), 1.0)
        if name.startswith("asym"):
            x = abs(rng.normal(0.0, ASYM_SIGMA))
        elif both != name:
            x = shared.setdefault(both, rng.normal(0.0, SCULPT_SIGMA)) + rng.normal(0.0, SIDE_SIGMA)
        else:
            x = rng.normal(0.0, SCULPT_SIGMA)
            if not np.any(negative):
                x = 0.6 * abs(x)
        x = tame * float(np.clip(x, -SCULPT_LIMIT, SCULPT_LIMIT))
        out += x * positive if x > 0 else -x * negative
    return out


def rigid(source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rotation R and translation t with ``source @ R.T + t ≈ target`` (Kabsch)."""
    w = np.ones(len(source)) if weight is None else weight
    a, b = np.average(source, axis=0, weights=w), np.average(target, axis=0, weights=w)
    u, _, vt = np.linalg.svd(((source - a) * w[:, None]).T @ (target - b))
    rotation = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    return rotation, b - rotation @ a


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale s, R, t with ``s · source @ R.T + t ≈ target``."""
    rotation, _ = rigid(source, target)
    a, b = source.mean(axis=0), target.mean(axis=0)
    turned = (source - a) @ rotation.T
    scale = float(np.sum(turned * (target - b)) / np.sum(turned**2))
    return scale, rotation, b - scale * rotation @ a

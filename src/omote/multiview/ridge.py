"""Ridge regression from pooled views to the face's coefficients, in closed form.

Persons are split into two halves by the parity of their index, and weights are fitted to each half separately. A network that
learns the residual therefore sees errors as large as those on unseen persons (cross-fitting; Chernozhukov et al., 2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from omote.errors import CheckpointError
from omote.files import atomic_path, reading
from omote.head.model import HeadModel
from omote.multiview.basis import FaceBasis, FaceFamily, sample_faces
from omote.multiview.data import ViewSource, joined, sets_of, with_faults
from omote.multiview.to_3d import regressors, without_depth
from omote.progress import Step, Steps

FACES_PER_COMPONENT = 10
CHUNK = 32
# Candidate penalties, relative to the mean variance of the regressors; the one with the least error on the other half is kept.
PENALTIES = (1e-3, 5e-3, 2.5e-2)
FILE = "coarse.safetensors"


@dataclass(frozen=True, kw_only=True)
class Coarse:
    """A coarse regression of the face.

    Attributes:
        basis: state dict of the `FaceBasis`.
        ridge: weights fitted to all persons, for views with depth and without.
        folds: weights fitted to even persons and to odd persons.
        penalty: chosen penalties, for views with depth and without.
        error: residual deviation of each coefficient on odd persons after a fit to even ones, for views with depth and without.
    """

    basis: dict[str, Tensor]
    ridge: Float[Tensor, "2 d c"]
    folds: Float[Tensor, "2 2 d c"]
    penalty: Float[Tensor, "2"]
    error: Float[Tensor, "2 c"]


def fit_coarse(
    source: ViewSource,
    heads: Sequence[HeadModel],
    families: Sequence[FaceFamily],
    *,
    num_components: int,
    pooled: int,
    seed: int,
) -> Steps[Coarse]:
    """Fit the components to the population's head models, and the regression to the available shards.

    Args:
        source: source of the view sets.
        heads: head models of the population.
        families: faces of the head models.
        num_components: number of shape components.
        pooled: side of the pooled views that the regression reads, pixels.
        seed: seed of all random draws.
    """
    yield Step(stage="basis")
    basis = FaceBasis(len(families[0].template_mm), num_components)
    basis.fit(sample_faces(heads, families, FACES_PER_COMPONENT * (num_components + 8), seed))

    faces = [(shard, row, k) for shard, row in source.persons for k in range(shard.num_images)]
    sums: dict[tuple[int, int], tuple[Tensor, ...]] = {}
    for number, (x, wanted, odd) in enumerate(_chunks(faces, families, basis, seed)):
        yield Step(stage="ridge", done=number * CHUNK, total=len(faces))
        for depth in (0, 1):
            read = regressors(without_depth(x, torch.full((len(x),), depth == 0)), pooled)
            for half in (0, 1):
                a, b = read[odd == half], wanted[odd == half]
                new = (a.T @ a, a.T @ b, (b**2).sum(dim=0))
                for total, part in zip(
                    sums.setdefault((depth, half), tuple(map(torch.zeros_like, new))), new, strict=True
                ):
                    total += part

    ridge, folds, penalties, errors = [], [], [], []
    for depth in (0, 1):
        yield Step(stage="ridge", done=len(faces), total=len(faces), note="solving")
        halves = [sums[depth, half] for half in (0, 1)]
        tried = []
        for penalty in PENALTIES:
            even = _solve(halves[0][0], halves[0][1], penalty)
            # |b - A w|² over the other half, computed from its sums alone.
            squared = _left(halves[1], even)
            tried.append((float(squared.clamp_min(0).sqrt().sum()), penalty, even, squared))
        _, penalty, even, squared = min(tried, key=lambda item: item[0])
        fitted = [even, _solve(halves[1][0], halves[1][1], penalty)]
        ridge.append(_solve(halves[0][0] + halves[1][0], halves[0][1] + halves[1][1], penalty))
        folds.append(torch.stack(fitted))
        penalties.append(penalty)
        errors.append((squared / len(faces)).clamp_min(0).sqrt())

    return Coarse(
        basis={k: v for k, v in basis.state_dict().items()},
        ridge=torch.stack(ridge),
        folds=torch.stack(folds, dim=1),
        penalty=torch.tensor(penalties),
        error=torch.stack(errors),
    )


def _chunks(
    faces: Sequence[tuple], families: Sequence[FaceFamily], basis: FaceBasis, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Views as rendered and again with faults, their coefficients, and whether each person's index is odd."""
    for start in range(0, len(faces), CHUNK):
        sets = joined([sets_of(shard, [(row, k)]) for shard, row, k in faces[start : start + CHUNK]])
        wanted, odd = basis.coefficients(sets.canonical(families), sets.pose), sets.person % 2
        faulty = with_faults(sets.x, np.random.default_rng([seed, start, 11]), 1.0)
        yield torch.cat([sets.x, faulty]), wanted.repeat(2, 1), odd.repeat(2)


def _solve(gram: Tensor, moment: Tensor, penalty: float) -> Tensor:
    size = len(gram)
    ridge = penalty * gram.diagonal()[:-1].mean() * torch.ones(size)
    ridge[-1] = 1e-3  # penalty of the constant term
    factor = torch.linalg.cholesky(gram + torch.diag(ridge))
    return torch.cholesky_solve(moment, factor)


def _left(sums: tuple[Tensor, ...], weights: Tensor) -> Tensor:
    gram, moment, square = sums
    return square - 2 * (weights * moment).sum(dim=0) + (weights * (gram @ weights)).sum(dim=0)


def save_coarse(coarse: Coarse, folder: Path) -> None:
    """Write a regression to a folder.

    Raises:
        OutputError: the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(coarse, name) for name in ("ridge", "folds", "penalty", "error")}
    tensors |= {f"basis.{name}": value for name, value in coarse.basis.items()}
    with atomic_path(folder / FILE) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)


def load_coarse(folder: Path) -> Coarse:
    """Read a regression from a folder.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with reading(folder, CheckpointError, "damaged", "delete it, and it is fitted anew"):
        raw = load_file(folder / FILE)
        basis = {name.removeprefix("basis."): raw.pop(name) for name in list(raw) if name.startswith("basis.")}
        return Coarse(basis=basis, **raw)

"""Training of the network that finds the expression in a scan: vertices as alignment gives them → weights of the head's units.

No scan is simulated. A person's vertices are known in correspondence with the shipped head (`omote.head.correspondence`), and the
linear fit with its refinement is imitated on them: a point-to-plane fit of the shipped head with the priors of `omote.head.fit`,
whose vertices are then moved along the normals onto the person. As in a real fit, how skin slid along the surface is lost where
another identity explains the shape as well. Persons are also blends of both families, each unit with a share of its own, and
bent smoothly, so that the network learns what expressions have in common rather than one family's identities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from omote.align.source_expression import SHOWN, TELLING, WIDE_SIGMA
from omote.datasets.population import draw_identity
from omote.errors import HeadModelError
from omote.files import atomic_path
from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES, CATEGORIES, draw_expression
from omote.head.fit import EXPRESSION_SIGMA, LANDMARK_WEIGHT
from omote.head.model import HeadModel
from omote.head.solver import EFFECTIVE_POINTS, FITTED_UNITS, LANDMARK_SIGMA_MM, MAX_IDENTITY, vertex_belief
from omote.multiview.basis import face_families
from omote.multiview.face_map import face_map

EVERY = 8  # every n-th vertex of the face is enough: the network reads no detail
CHUNK = 200
REST_SHARE, WEAKER_SHARE, RANDOM_SHARE = 0.35, 0.3, 0.12
RANDOM_UNITS = 3
PURE_SHARE = 0.4  # persons of one family; the others are blends
BEND_MM, BEND_LENGTH_MM, NUM_WAVES = 1.0, 35.0, 6
LANDMARK_NOISE_MM, LANDMARK_SHIFT_MM, CONFIDENCE = 1.2, 0.5, 0.9
NOISE_MM = (0.03, 0.25)
FIT_ROUNDS = 3
ROBUST_MM = 1.5
FIT_IDENTITIES = 100
WHITEN_MM = 0.5  # components that vary less are noise
INPUT_NOISE = 0.05
UNIT_LOSS, STYLE_LOSS = 0.02, 0.004


@dataclass(frozen=True, kw_only=True)
class ExpressionTraining:
    """Settings of the training.

    Attributes:
        persons: number of persons drawn, each with one expression.
        epochs: passes over them.
        components: number of principal components read.
        width: width of the hidden layers.
        batch_size: persons per step.
        learning_rate: peak learning rate of AdamW (one cycle).
        seed: seed of all random choices.
    """

    persons: int = 30_000
    epochs: int = 40
    components: int = 160
    width: int = 384
    batch_size: int = 256
    learning_rate: float = 1.5e-3
    seed: int = 0


class Drawn(NamedTuple):
    """Persons with an expression: identity coefficients, ARKit weights, and the family's index."""

    identity: Float[Tensor, "b i"]
    arkit: Float[Tensor, "b 52"]
    family: Int[Tensor, " b"]


class Samples(NamedTuple):
    """Refined vertices of persons (mm), the expression's true motion in them (mm), and its weights."""

    vertices: Float[Tensor, "b d"]
    motion: Float[Tensor, "b d"]
    arkit: Float[Tensor, "b 52"]


class FamilyFaces:
    """The face of both families at the vertices of the shipped head's face map, as tensors of n · 3 numbers."""

    def __init__(self, heads: Sequence[HeadModel]) -> None:
        head, face = heads[0], face_map(heads[0])
        families = face_families(heads, face)
        count = min(len(family.identity_mm) for family in families)

        def flat(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).flatten(-2)

        self.mean = [flat(family.template_mm) for family in families]
        self.identity = [flat(family.identity_mm[:count]) for family in families]
        self.units = [flat(family.expression_mm) for family in families]
        self.faces = torch.from_numpy(face.faces)

        read = np.flatnonzero(face.region)[::EVERY]
        self.read, self.read_ids = torch.from_numpy(read), face.ids[read]
        self.belief = torch.from_numpy(vertex_belief(head)[self.read_ids].astype(np.float32))

        place = np.full(head.num_vertices, -1)
        place[face.ids] = np.arange(len(face.ids))
        corners = place[head.landmark_vertices]
        self.has_landmark = torch.from_numpy((corners >= 0).all(axis=1))
        self.landmark_corners = torch.from_numpy(np.where(corners >= 0, corners, 0))
        self.landmark_shares = torch.from_numpy(head.landmark_weights.astype(np.float32))

    def landmarks(self, vertices: Float[Tensor, "b n 3"]) -> Float[Tensor, "b 68 3"]:
        """Landmarks of faces; those beyond the face are meaningless (`has_landmark`)."""
        return torch.einsum("blkc,lk->blc", vertices[:, self.landmark_corners], self.landmark_shares)

    def normals(self, vertices: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """Unit normals at the vertices."""
        a, b, c = (vertices[:, self.faces[:, k]] for k in range(3))
        normal = torch.cross(b - a, c - a, dim=2)
        summed = torch.zeros_like(vertices).index_add(1, self.faces.T.reshape(-1), normal.repeat(1, 3, 1))
        return F.normalize(summed, dim=2)


def draw(heads: Sequence[HeadModel], count: int, modes: int, rng: np.random.Generator) -> Drawn:
    """Persons of all families in turn, a third of them at rest."""
    identity, arkit = np.zeros((count, modes), np.float32), np.zeros((count, len(ARKIT_NAMES)), np.float32)
    for row in range(count):
        number = 0 if rng.random() < REST_SHARE else 1 + int(rng.integers(len(CATEGORIES) - 1))
        weights = draw_expression(CATEGORIES[number], rng).arkit
        assert weights is not None
        arkit[row] = weights * (rng.random() if rng.random() < WEAKER_SHARE else 1.0)
        if rng.random() < RANDOM_SHARE:
            arkit[row] = 0.0
            arkit[row, rng.integers(len(ARKIT_NAMES), size=RANDOM_UNITS)] = rng.random(RANDOM_UNITS)
        own = draw_identity(heads[row % len(heads)], rng)[:modes] * rng.uniform(0.85, 1.3)
        identity[row, : len(own)] = own
    family = torch.arange(count) % len(heads)
    return Drawn(torch.from_numpy(identity), torch.from_numpy(arkit), family)


def posed(face: FamilyFaces, drawn: Drawn, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(vertices, motion) of persons, most of them blends of both families, bent smoothly; (b, n, 3) each, mm."""
    count, first = len(drawn.family), (drawn.family == 0)[:, None]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    pure = uniform(count, 1) < PURE_SHARE
    own = torch.where(pure, torch.ones(()), uniform(count, 1))
    share = torch.where(first, own, 1 - own)
    other = drawn.identity[torch.randperm(count, generator=generator)]
    vertices = share * face.mean[0] + (1 - share) * face.mean[1]
    vertices = vertices + (share * torch.where(first, drawn.identity, other)) @ face.identity[0]
    vertices = vertices + ((1 - share) * torch.where(first, other, drawn.identity)) @ face.identity[1]

    units = drawn.arkit.shape[1]
    blend = torch.where(pure, first.float().expand(-1, units), uniform(count, units))
    weights = drawn.arkit * torch.where(pure, torch.ones(()), 0.8 + 0.4 * uniform(count, units))
    motion = (weights * blend) @ face.units[0] + (weights * (1 - blend)) @ face.units[1]

    place = face.mean[0].view(-1, 3)
    waves = torch.randn(count, NUM_WAVES, 3, generator=generator) / BEND_LENGTH_MM
    phase = 2 * torch.pi * uniform(count, NUM_WAVES, 1)
    height = torch.randn(count, NUM_WAVES, 3, generator=generator) * (2 / NUM_WAVES) ** 0.5 * BEND_MM
    angle = torch.einsum("bkc,nc->bkn", waves, place) + phase
    bent = torch.einsum("bkn,bkc->bnc", torch.cos(angle), height * uniform(count, 1, 1))
    return (vertices + motion).unflatten(1, (-1, 3)) + bent, motion.unflatten(1, (-1, 3))


class FitImitation:
    """The linear fit of the shipped head and its refinement, on persons whose vertices are known."""

    def __init__(self, face: FamilyFaces) -> None:
        self.face = face
        self.fitted = torch.from_numpy(FITTED_UNITS)
        basis = torch.cat([face.identity[0][:FIT_IDENTITIES], face.units[0][self.fitted]]).unflatten(1, (-1, 3))
        self.identities = len(basis) - len(self.fitted)
        self.basis = basis[:, face.read]
        self.landmark_basis = face.landmarks(basis)
        mean = face.mean[0].view(1, -1, 3)
        self.mean, self.landmark_mean = mean[0, face.read], face.landmarks(mean)[0]
        self.trust = torch.from_numpy(LANDMARK_WEIGHT.astype(np.float32)) * face.has_landmark * CONFIDENCE
        place = {int(unit): n for n, unit in enumerate(self.fitted)}
        sides = [[name] if name in ARKIT_INDEX else [f"{name}Left", f"{name}Right"] for name in TELLING]
        self.telling = torch.tensor([[place[ARKIT_INDEX[side]] for side in (pair * 2)[:2]] for pair in sides])

    def refined(
        self, vertices: Float[Tensor, "b n 3"], motion: Float[Tensor, "b n 3"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """The refined vertices, and the motion in their frame."""
        normals = self.face.normals(vertices)[:, self.face.read]
        surface, marks = vertices[:, self.face.read], self.face.landmarks(vertices)
        marks = marks + LANDMARK_NOISE_MM * torch.randn(marks.shape, generator=generator)
        marks = marks + LANDMARK_SHIFT_MM * torch.randn(len(marks), 1, 3, generator=generator)
        out, moved, weights = self._fit(surface, normals, marks, EXPRESSION_SIGMA)
        shown = (weights[:, self.telling].amin(dim=2) >= SHOWN).any(dim=1)
        if shown.any():
            again = self._fit(surface[shown], normals[shown], marks[shown], WIDE_SIGMA)
            out[shown], moved[shown] = again[0], again[1]
        noise = NOISE_MM[0] + (NOISE_MM[1] - NOISE_MM[0]) * torch.rand(len(out), 1, 1, generator=generator) ** 2
        out = out + noise * torch.randn(out.shape, generator=generator)
        return out.flatten(1), (motion[:, self.face.read] @ moved.transpose(1, 2)).flatten(1)

    def _fit(
        self, surface: Tensor, normals: Tensor, marks: Tensor, sigma: float
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b 3 3"], Float[Tensor, "b u"]]:
        """(vertices on the surface, rotation into their frame, ARKit weights); Gauss-Newton as in `omote.head.fit`."""
        count, size = len(surface), len(self.basis)
        prior = torch.full((6 + size,), 1e-6)
        prior[6 : 6 + self.identities] = 1.0
        prior[6 + self.identities :] = 1 / sigma**2
        turned = torch.eye(3).expand(count, 3, 3)
        weight = self.face.belief.expand(count, -1)
        for _ in range(FIT_ROUNDS):
            shape = torch.einsum("kmc,bmc->bmk", self.basis, normals)
            rows = torch.cat([-torch.cross(surface, normals, dim=2), -normals, shape], dim=2)
            target = ((self.mean - surface) * normals).sum(dim=2)
            counted = weight * (EFFECTIVE_POINTS / weight.sum(dim=1, keepdim=True)).clamp_max(1)
            matrix = (rows * counted[..., None]).transpose(1, 2) @ rows + torch.diag(prior)
            right = -(rows * (counted * target)[..., None]).sum(dim=1)

            # Of a landmark q, the model minus (q + ω × q + τ).
            along = torch.cat(
                [
                    crossing(marks).flatten(1, 2),
                    -torch.eye(3).repeat(marks.shape[1], 1).expand(count, -1, -1),
                    self.landmark_basis.flatten(1).T.expand(count, -1, -1),
                ],
                dim=2,
            )
            trust = (self.trust / LANDMARK_SIGMA_MM**2).repeat_interleave(3)
            matrix = matrix + (along * trust[:, None]).transpose(1, 2) @ along
            right = right - (along * (trust * (self.landmark_mean - marks).flatten(1))[..., None]).sum(dim=1)

            solved = torch.linalg.solve(matrix, right)
            identity = solved[:, 6 : 6 + self.identities].clamp(-MAX_IDENTITY, MAX_IDENTITY)
            units = solved[:, 6 + self.identities :].clamp(0, 1)
            rotation = torch.matrix_exp(crossing(solved[:, None, :3])[:, 0])
            surface = surface @ rotation.transpose(1, 2) + solved[:, None, 3:6]
            marks = marks @ rotation.transpose(1, 2) + solved[:, None, 3:6]
            normals, turned = normals @ rotation.transpose(1, 2), rotation @ turned
            model = self.mean + torch.einsum("bk,kmc->bmc", torch.cat([identity, units], dim=1), self.basis)
            offset = ((model - surface) * normals).sum(dim=2)
            weight = self.face.belief / (1 + (offset / ROBUST_MM) ** 2) ** 2
        return model - normals * offset[..., None], turned, units


def crossing(vector: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3 3"]:
    """Matrices M with M ω = vector × ω."""
    zero, (x, y, z) = torch.zeros_like(vector[..., 0]), vector.unbind(dim=2)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=2).unflatten(2, (3, 3))


class Regression(nn.Module):
    """Components → weights of the units, and of the second style's offsets; zero beyond the linear part at initialisation."""

    def __init__(self, components: int, width: int) -> None:
        super().__init__()
        outputs = 2 * len(ARKIT_NAMES)
        self.skip = nn.Linear(components, outputs)
        self.layers = nn.ModuleList([
            nn.Linear(components, width), nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, outputs)
        ])  # fmt: skip
        last: Any = self.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Float[Tensor, "b k"]) -> Float[Tensor, "b 104"]:
        """Weights from components."""
        hidden, (*inner, last) = x, self.layers
        for layer in inner:
            hidden = F.silu(layer(hidden))
        out: Tensor = self.skip(x) + last(hidden)
        return out


def drawn_samples(
    config: ExpressionTraining, heads: Sequence[HeadModel], face: FamilyFaces
) -> Iterator[int | Samples]:  # fmt: skip
    """Yield the number of persons done, and finally all samples."""
    imitation, parts = FitImitation(face), []
    modes = len(face.identity[0])
    for start in range(0, config.persons, CHUNK):
        count = min(CHUNK, config.persons - start)
        drawn = draw(heads, count, modes, np.random.default_rng([config.seed, start]))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + start)
        vertices, motion = posed(face, drawn, generator)
        parts.append(Samples(*imitation.refined(vertices, motion, generator), drawn.arkit))
        yield start + count
    yield Samples(*(torch.cat(column) for column in zip(*parts, strict=True)))


def train_source_expression(
    config: ExpressionTraining, heads: Sequence[HeadModel], path: Path
) -> Iterator[tuple[str, int, int, float]]:
    """Train the network and write it; yields (stage, done, total, error in mm).

    Args:
        config: settings.
        heads: the shipped head, which has two unit styles, and a second family.
        path: file of the weights.

    Raises:
        HeadModelError: there is one family only, or the first head has one unit style only.
    """
    style = heads[0].unit_style
    if len(heads) < 2 or style is None:
        raise HeadModelError("source-expression: expected two head families; give --ict PATH")
    torch.manual_seed(config.seed)
    face = FamilyFaces(heads)
    for item in drawn_samples(config, heads, face):
        if isinstance(item, int):
            yield "draw", item, config.persons, float("nan")
        else:
            samples = item

    offsets = torch.zeros(len(ARKIT_NAMES), heads[0].num_vertices, 3)
    offsets[:, torch.from_numpy(style.vertices.astype(np.int64))] = torch.from_numpy(style.offset_mm.astype(np.float32))
    read = torch.from_numpy(face.read_ids)
    plain = torch.from_numpy(np.ascontiguousarray(heads[0].expression_mm[:, face.read_ids], np.float32))
    fields = torch.cat([plain, offsets[:, read]]).flatten(1)

    mean = samples.vertices.mean(dim=0)
    _, size, components = torch.svd_lowrank(samples.vertices - mean, q=config.components, niter=3)
    components = components / (size / len(samples.vertices) ** 0.5).clamp_min(WHITEN_MM)
    network = Regression(config.components, config.width)
    yield from _trained(network, config, (samples.vertices - mean) @ components, samples, fields)
    _save(path, heads[0].name, face.read_ids, mean.view(-1, 3), components, network)


def _trained(
    network: Regression,
    config: ExpressionTraining,
    read: Float[Tensor, "m k"],
    samples: Samples,
    fields: Float[Tensor, "104 d"],
) -> Iterator[tuple[str, int, int, float]]:
    count, places = len(read), fields.shape[1] // 3
    gram, along = fields @ fields.T / places, samples.motion @ fields.T / places
    size = (samples.motion**2).sum(dim=1) / places
    steps = config.epochs * count // config.batch_size
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps + 1)
    units = samples.arkit.shape[1]
    for step in range(steps):
        rows = torch.randint(count, (config.batch_size,))
        out = network(read[rows] + INPUT_NOISE * torch.randn(config.batch_size, read.shape[1]))
        # Mean squared error of the motion, from the products of the fields.
        error = ((out @ gram * out).sum(dim=1) - 2 * (out * along[rows]).sum(dim=1) + size[rows]).clamp_min(0)
        loss = (
            torch.sqrt(error + 0.02).mean()
            + UNIT_LOSS * ((out[:, :units] - samples.arkit[rows]) ** 2).sum(dim=1).mean()
        )
        loss = loss + STYLE_LOSS * (out[:, units:] ** 2).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            yield "train", step + 1, steps, float(error.detach().sqrt().mean())


def _save(
    path: Path,
    name: str,
    ids: Int[np.ndarray, " n"],
    mean: Float[Tensor, "n 3"],
    components: Float[Tensor, "d k"],
    network: Regression,
) -> None:
    tensors = {
        "head": torch.tensor(list(name.encode()), dtype=torch.uint8),
        "vertices": torch.from_numpy(ids.astype(np.int32)),
        "mean_mm": mean.float(),
        "components": components.half(),
        "skip.weight": network.skip.weight.half(),
        "skip.bias": network.skip.bias.float(),
    }
    layer: Any
    for n, layer in enumerate(network.layers):
        tensors |= {f"layer{n}.weight": layer.weight.half(), f"layer{n}.bias": layer.bias.float()}
    with atomic_path(path) as temporary:
        save_file({key: value.detach().contiguous() for key, value in tensors.items()}, temporary)

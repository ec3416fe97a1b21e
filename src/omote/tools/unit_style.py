"""Learning of the second style of units from a population of two head models, in closed form: minutes on one core.

Each person's image at rest is fitted as a scan would be. Pixels that show both the person's own skin and the fitted head's make
the person's units observations of the fitted head's motion. Averages over persons describe how each model's persons move at the
shipped head's vertices. Persons of the shipped head are observed through the same imperfect fits, so the blur of the fits cancels
in the difference of the two averages. It doesn't cancel along the line between the lips and on the edges of the lids, where a
pixel of one lip is taken for the other: there, and behind them, the second model's own units are read in the shipped head's
topology (`omote.head.correspondence`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from omote.datasets.population import Person, PopulationConfig, draw_person, fit_as_found, render_person
from omote.errors import OmoteError
from omote.geometry.mesh import adjacency, unique_edges
from omote.head.correspondence import in_topology_of
from omote.head.expressions import ARKIT_NAMES
from omote.head.model import PARTS, HeadModel
from omote.head.region import head_region
from omote.head.unit_style import UnitStyle
from omote.rendering.zbuffer import rasterize

SAME_SURFACE_MM = 8.0  # renders of a face that are farther apart show different folds
BEHIND_MM = -40.0  # nothing behind the cheeks moves visibly
# Distance from the line between the lips and from the edges of the lids: within it, observations mix both sides. Twice as far
# within the mouth, units are still read in correspondence.
RIM_MM, RIM_BLEND_MM, LINING_MM = 3.0, 1.0, 6.0
RIMS = (slice(36, 42), slice(42, 48), slice(60, 68))  # eyes and inner lips, of the 68 landmarks
SEEN = 8.0  # number of observations from which on a vertex is trusted more than its neighbours
STIFFNESS = 0.05
RIDGE = 1e-3


@dataclass(frozen=True, kw_only=True)
class StyleReport:
    """Results on held-out persons.

    Attributes:
        persons: number of persons of each head model in the training set.
        told_apart: share of held-out persons whose style is on the correct side of one half.
        before_mm: mean error of the shipped units on held-out persons of the second model, where their units move.
        after_mm: the same error with the style.
    """

    persons: tuple[int, int]
    told_apart: float
    before_mm: float
    after_mm: float


@dataclass(frozen=True, kw_only=True)
class _Seen:
    head: int
    identity: Float[np.ndarray, "i"]
    count: Float[np.ndarray, "v"]
    sum_mm: Float[np.ndarray, "52 v 3"]


def learn_unit_style(
    config: PopulationConfig, heads: Sequence[HeadModel], num_persons: int, *, held_out: int = 40
) -> Iterator[int | tuple[UnitStyle, StyleReport]]:
    """Learn from persons 0 to ``num_persons`` of a population; yields the number of finished persons, finally the style.

    Args:
        config: config of a population with two head models.
        heads: shipped head model, and the one whose style is learned.
        num_persons: number of persons.
        held_out: number of persons, counted from the last one, that only measure.

    Raises:
        OmoteError: there is one head model only, or no held-out person.
    """
    if len(heads) != 2:
        raise OmoteError("expected a population of two head models; give --ict PATH of an ICT-FaceKit checkout or npz")
    shape = (len(ARKIT_NAMES), heads[0].num_vertices, 3)
    count, total = np.zeros((2, shape[1])), np.zeros((2, *shape), np.float64)
    learned, judges = [], []
    for index in range(num_persons):
        person = draw_person(config, index, heads)
        seen = _observe(person, heads)
        if index < num_persons - held_out:
            count[seen.head] += seen.count
            total[seen.head] += seen.sum_mm
            learned.append((seen.head, seen.identity))
        else:
            judges.append(seen)
        yield index + 1
    if len({h for h, _ in learned}) != 2 or {s.head for s in judges} != {0, 1}:
        raise OmoteError(
            f"expected persons of both head models to learn from and to judge by; draw more than {num_persons}"
        )
    offset = with_rims(heads[0], heads[1], _offsets(heads[0], count, total))
    weight, bias = _logistic(np.stack([i for _, i in learned]), np.array([h for h, _ in learned], np.float64))
    used = np.flatnonzero(np.abs(offset).max(axis=(0, 2)) > 1e-3)
    style = UnitStyle(vertices=used, offset_mm=offset[:, used], identity_weight=weight, bias=bias)
    persons = tuple(sum(h == k for h, _ in learned) for k in (0, 1))
    yield style, _judged(heads[0], style, judges, (persons[0], persons[1]))


def _observe(person: Person, heads: Sequence[HeadModel]) -> _Seen:
    """The person's own units at the vertices of the head fitted to them."""
    own, shipped = heads[person.head], heads[0]
    image, _, vertices = next(render_person(person, heads))
    fit = fit_as_found(person, heads, image, vertices)
    on_own = rasterize(person.camera, vertices, own.faces, cull_back=True)
    on_fit = rasterize(fit.camera, fit.rest_vertices(), shipped.faces, cull_back=True)
    skin = PARTS.index("skin")
    both = (on_own.face_id >= 0) & (on_fit.face_id >= 0)
    both &= (own.face_part[on_own.face_id] == skin) & (shipped.face_part[on_fit.face_id] == skin)
    both &= np.abs(on_own.depth_mm - on_fit.depth_mm) < SAME_SURFACE_MM
    corners = own.faces[on_own.face_id[both]]
    moves = np.einsum("kpcx,pc->kpx", own.expression_mm[:, corners], on_own.barycentric[both])
    fit_from_person = fit.camera.cam_from_world[:3, :3].T @ person.camera.cam_from_world[:3, :3]
    moves = moves @ fit_from_person.T.astype(np.float32)
    pixels = np.repeat(np.arange(len(corners)), 3)
    spread = sparse.csr_matrix(
        (on_fit.barycentric[both].ravel(), (shipped.faces[on_fit.face_id[both]].ravel(), pixels)),
        shape=(shipped.num_vertices, len(corners)),
    )
    flat = spread @ moves.transpose(1, 0, 2).reshape(len(corners), -1)
    return _Seen(
        head=person.head,
        identity=fit.identity,
        count=np.asarray(spread.sum(axis=1)).ravel(),
        sum_mm=flat.reshape(shipped.num_vertices, len(moves), 3).transpose(1, 0, 2).astype(np.float32),
    )


def with_rims(
    head: HeadModel, second: HeadModel, offset_mm: Float[np.ndarray, "52 v 3"]
) -> Float[np.ndarray, "52 v 3"]:
    """Offsets whose values at the edges of lips and lids are read in correspondence, and continued to what lies behind.

    Args:
        head: shipped head model.
        second: head model whose style is learned.
        offset_mm: offsets as observed.
    """
    rest = head.template_mm.astype(np.float64)
    away = _rim_distance(head)
    exterior = head_region(head).exterior
    inside = np.zeros(head.num_vertices, bool)
    inside[head.part_vertices("skin", "mouth")] = True
    inside &= ~exterior

    share = np.clip((away - RIM_MM) / RIM_BLEND_MM, 0.0, 1.0)
    read = np.flatnonzero((exterior & (share < 1)) | (inside & (away < LINING_MM)))
    share = np.where(exterior, share, 0.0)[read, None]
    exact = in_topology_of(second, head).expression_mm[:, read] - head.expression_mm[:, read]
    out = offset_mm.copy()
    out[:, read] = share * out[:, read] + (1 - share) * exact

    behind = inside & (rest[:, 2] < BEHIND_MM)
    out[:, behind] = 0.0
    links, degree = adjacency(head.faces, head.num_vertices)
    _, piece = connected_components(links, directed=False)
    # Gums and arches are pieces of their own, which keep the shipped head's units.
    free = inside & ~behind & (away >= LINING_MM) & (piece == piece[head.part_vertices("skin")[0]])
    # Harmonic, so that nothing behind the lips moves farther than what it hangs on.
    ids = np.flatnonzero(free)
    solve = splu((sparse.diags(degree[ids] + 1e-9) - links[ids][:, ids]).tocsc())
    known = links[ids] @ sparse.diags((~free).astype(float))
    for unit in out:
        unit[ids] = solve.solve(known @ unit.astype(np.float64))
    return out


def _rim_distance(head: HeadModel) -> Float[np.ndarray, " v"]:
    """Distance (mm) of each vertex from the edges of lips and lids on the template."""
    landmarks = head.landmarks(head.template_mm.astype(np.float64))
    along = np.linspace(0, 1, 5, endpoint=False)[:, None]
    edges = [
        a + along * (b - a) for rim in RIMS for a, b in zip(landmarks[rim], np.roll(landmarks[rim], -1, 0), strict=True)
    ]
    return np.asarray(cKDTree(np.concatenate(edges)).query(head.template_mm)[0])


def _offsets(
    head: HeadModel, count: Float[np.ndarray, "2 v"], total: Float[np.ndarray, "2 52 v 3"]
) -> Float[np.ndarray, "52 v 3"]:
    """Difference of the two averages, continued smoothly to unseen skin, such as inside closed lips and behind lids.

    A bilaplacian keeps the slope across the rim (Botsch & Kobbelt, "An Intuitive Framework for Real-Time Freeform Modeling",
    SIGGRAPH 2004).
    """
    mean = total / np.maximum(count, 1e-6)[:, None, :, None]
    difference = mean[1] - mean[0]
    ids = head.part_vertices("skin", "mouth")
    lookup = np.full(head.num_vertices, -1)
    lookup[ids] = np.arange(len(ids))
    edges = lookup[unique_edges(head.faces)]
    edges = edges[(edges >= 0).all(axis=1)]
    links = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(ids), len(ids)))
    links = links + links.T
    laplacian = sparse.diags(np.asarray(links.sum(axis=1)).ravel()) - links
    seen = count.min(axis=0)[ids]
    trust = seen / (seen + SEEN) + 1e-4
    difference = difference[:, ids] * (seen > 0)[None, :, None]
    behind: Bool[np.ndarray, " n"] = head.template_mm[ids, 2] < BEHIND_MM
    trust[behind] = 1.0
    difference[:, behind] = 0.0
    solve = splu((sparse.diags(trust) + STIFFNESS * (laplacian.T @ laplacian)).tocsc())
    out = np.zeros_like(mean[0], dtype=np.float32)
    for k in range(len(out)):
        out[k, ids] = solve.solve(trust[:, None] * difference[k])
    return out


def _logistic(x: Float[np.ndarray, "n i"], y: Float[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "i"], float]:
    """Ridge logistic regression: (weights, bias)."""
    data, label = torch.from_numpy(x).double(), torch.from_numpy(y)
    weight = torch.zeros(x.shape[1] + 1, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=200)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logit = data @ weight[:-1] + weight[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logit, label) + RIDGE * weight[:-1].square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    result = weight.detach().numpy()
    return result[:-1].astype(np.float32), float(result[-1])


def _judged(head: HeadModel, style: UnitStyle, judges: Sequence[_Seen], persons: tuple[int, int]) -> StyleReport:
    right, before, after = [], [], []
    for seen in judges:
        share = style.share(seen.identity)
        right.append((share > 0.5) == (seen.head == 1))
        if seen.head == 0:
            continue
        known = seen.count > 0.5
        truth = seen.sum_mm[:, known] / seen.count[known][None, :, None]
        moving = np.linalg.norm(truth, axis=-1) > 1.0
        shipped = head.expression_mm[:, known]
        offset = np.zeros_like(head.expression_mm)
        offset[:, style.vertices] = style.offset_mm
        styled = shipped + share * offset[:, known]
        before.append(np.linalg.norm(shipped - truth, axis=-1)[moving].mean())
        after.append(np.linalg.norm(styled - truth, axis=-1)[moving].mean())
    return StyleReport(
        persons=persons,
        told_apart=float(np.mean(right)),
        before_mm=float(np.mean(before)),
        after_mm=float(np.mean(after)),
    )

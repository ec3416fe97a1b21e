"""The expression that a scan shows, if it shows one clearly.

A linear fit gives every face some expression: units that bend a cheek or narrow an eye compensate for an identity that the head
model lacks, and a smile with closed lips passes for a wide mouth. For the shipped head, a small network has learned the
difference from two head families (`omote.tools.source_expression`): from the refined vertices to the weights of the head's units
in both of its styles. For other head models, the linear fit tells clear expressions alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file

from omote.errors import CheckpointError
from omote.files import reading
from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES, arkit_weights
from omote.head.fit import eyeball_centers
from omote.head.model import HeadModel

WEIGHTS = Path(__file__).parent / "weights" / "source_expression.safetensors"

TELLING = (
    "jawOpen", "mouthSmile", "mouthFrown", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthFunnel", "browInnerUp",
    "browDown", "browOuterUp", "noseSneer", "eyeWide",
)  # fmt: skip
# Fitted with the prior of a face at rest, ten neutral faces got at most .17 of any of these units. Twelve faces with an
# expression got .2 to .44, except sad ones and smiles with closed lips.
SHOWN = 0.2
# Standard deviation of the prior when fitting a face that shows an expression.
WIDE_SIGMA = 0.4
LEAST = 0.05
# Mean motion over the face from which on an expression is sure. Of 20 faces at rest, two of them real scans, the most was
# .55 mm; of 55 with an expression, the least .73.
SURE_MM = 0.65
# The network's answer is an expected value, which is small where it is unsure: of 24 expressive persons of the tuning split, the
# shape at rest was nearest to the truth on the mean with this multiple of its motion taken off.
TAKEN_OFF = 1.1
TOLD, MOST_TOLD = 0.15, 8  # least strength of a unit that is told, and their largest number


def shown_units(expression: Float[np.ndarray, "52"], least: float = SHOWN) -> Mapping[str, float]:
    """Strengths of the units in `TELLING` by names without a side (the weaker side counts), without those below ``least``."""
    strength = {}
    for name in TELLING:
        sides = [name] if name in ARKIT_INDEX else [f"{name}Left", f"{name}Right"]
        strength[name] = float(min(expression[ARKIT_INDEX[side]] for side in sides))
    return {name: value for name, value in strength.items() if value >= least}


@dataclass(frozen=True, kw_only=True)
class SourceExpression:
    """An expression that a scan clearly shows.

    Attributes:
        motion_mm: its motion from rest, for all vertices of the head model.
        units: strengths by unit names without a side, strongest first.
    """

    motion_mm: Float[np.ndarray, "v 3"]
    units: Mapping[str, float]


def source_expression(
    head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"], fitted: Float[np.ndarray, "52"]
) -> SourceExpression | None:
    """The expression in a scan's refined vertices, or None if it may be at rest.

    Args:
        head: head model of the vertices.
        vertices_mm: head refined onto the scan, in the canonical frame.
        fitted: ARKit weights of the linear fit, which decide for head models that the network does not know.

    Raises:
        CheckpointError: the network's weights are missing or damaged.
    """
    regression = shipped_regression()
    style = head.unit_style
    if head.name != regression.head or head.num_vertices <= regression.vertices.max() or style is None:
        shown = shown_units(fitted, LEAST) if shown_units(fitted) else {}
        motion = np.tensordot(arkit_weights(shown), head.expression_mm, 1)
        return SourceExpression(motion_mm=motion, units=shown) if shown else None
    plain, styled = regression(vertices_mm - eyeball_centers(head, vertices_mm).mean(axis=0))
    motion = np.tensordot(plain, head.expression_mm, 1).astype(np.float64)
    motion[style.vertices] += np.tensordot(styled, style.offset_mm, 1)
    if np.linalg.norm(motion[regression.vertices], axis=1).mean() < SURE_MM:
        return None
    return SourceExpression(motion_mm=TAKEN_OFF * motion, units=told_units(plain))


def told_units(weights: Float[np.ndarray, "52"]) -> Mapping[str, float]:
    """The strongest units by names without a side (the mean of both counts), strongest first."""
    sides: dict[str, list[float]] = {}
    for name, weight in zip(ARKIT_NAMES, weights, strict=True):
        sides.setdefault(name.removesuffix("Left").removesuffix("Right"), []).append(float(weight))
    strength = {name: float(np.mean(values)) for name, values in sides.items()}
    strongest = sorted(strength, key=lambda name: -strength[name])[:MOST_TOLD]
    return {name: strength[name] for name in strongest if strength[name] >= TOLD}


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionRegression:
    """Vertices at the face → weights of the head's units, by principal components and three hidden layers.

    Attributes:
        head: name of the head model.
        vertices: ids of the vertices that it reads.
        mean_mm: their mean positions, with the eyeballs' centre at the origin.
        components: principal components of their positions, each divided by its scale.
        layers: weight and bias of each hidden layer (SiLU), and of the output.
        skip: weight and bias from the components straight to the output.
    """

    head: str
    vertices: Int[np.ndarray, " n"]
    mean_mm: Float[np.ndarray, "n 3"]
    components: Float[np.ndarray, "d k"]
    layers: tuple[tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, " _"]], ...]
    skip: tuple[Float[np.ndarray, "104 k"], Float[np.ndarray, "104"]]

    def __call__(
        self, vertices_mm: Float[np.ndarray, "v 3"]
    ) -> tuple[Float[np.ndarray, "52"], Float[np.ndarray, "52"]]:
        """Weights of the head's units, and of the offsets that its second style adds to them."""
        read = (vertices_mm[self.vertices] - self.mean_mm).ravel() @ self.components
        hidden, (*inner, last) = read, self.layers
        for weight, bias in inner:
            x = weight @ hidden + bias
            hidden = x / (1 + np.exp(-x))
        out = last[0] @ hidden + last[1] + self.skip[0] @ read + self.skip[1]
        return out[: len(ARKIT_NAMES)], out[len(ARKIT_NAMES) :]


@lru_cache(maxsize=1)
def shipped_regression() -> ExpressionRegression:
    """The shipped network; loaded once.

    Raises:
        CheckpointError: the weights are missing or damaged.
    """
    return load_regression(WEIGHTS)


def load_regression(path: Path) -> ExpressionRegression:
    """A network that `omote.tools.source_expression` has written.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with reading(path, CheckpointError, "weights do not load", "reinstall omote or run `omote tool source-expression`"):
        own = {name: array.astype(np.float64) for name, array in load_file(path).items()}
        count = sum(name.startswith("layer") for name in own) // 2
        return ExpressionRegression(
            head=bytes(own["head"].astype(np.uint8)).decode(),
            vertices=own["vertices"].astype(np.int64),
            mean_mm=own["mean_mm"],
            components=own["components"],
            layers=tuple((own[f"layer{n}.weight"], own[f"layer{n}.bias"]) for n in range(count)),
            skip=(own["skip.weight"], own["skip.bias"]),
        )

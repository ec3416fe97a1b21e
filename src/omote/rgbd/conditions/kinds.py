"""The kinds of condition that come with the package, and conditions built from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jaxtyping import Float
from torch import Tensor

from omote.datasets.pairs import PairBatch
from omote.head.rest_face import RestFace
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.base import Condition, Kind
from omote.rgbd.conditions.category import Category
from omote.rgbd.conditions.geometry import Geometry
from omote.rgbd.conditions.identity import Identity
from omote.rgbd.conditions.motion import Motion
from omote.types import Expression

# In the order of the random draws for their dropout.
KINDS: tuple[type[Kind], ...] = (Category, Arkit, Motion, Geometry, Identity)


def condition_of(
    expressions: Sequence[Expression], face: RestFace | None = None, kinds: Collection[type[Kind]] = KINDS
) -> Condition:
    """The condition for wanted expressions of one face.

    Args:
        expressions: expression of each item; their geometry images must have equal sizes.
        face: face of the person in the source image; without it, there is no motion image and no identity.
        kinds: kinds of condition to build.

    Raises:
        ConfigError: an unknown category.
    """
    values = (kind.of(expressions, face) for kind in kinds)
    return Condition(tuple(value for value in values if value is not None), len(expressions))


def condition_of_pairs(
    pairs: PairBatch, target: Float[Tensor, "b 5 s s"], kinds: Collection[type[Kind]] = KINDS
) -> Condition:
    """The condition of training targets, without motion images, which are rendered after dropout (`Motion.drawn`).

    Args:
        pairs: pairs of sources and targets.
        target: packed target images.
        kinds: kinds of condition to build.
    """
    values = (kind.of_pairs(pairs, target) for kind in kinds)
    return Condition(tuple(value for value in values if value is not None), len(target))

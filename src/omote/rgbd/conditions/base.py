"""τ_θ: wanted expressions → tokens that cross-attention reads (Rombach et al., CVPR 2022, §3.3).

Each kind of condition makes tokens of its own and has a learned "not given" token, so that kinds can be used alone,
together, or not at all (for classifier-free guidance, Ho & Salimans 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from omote.head.expressions import ARKIT_NAMES, CATEGORIES, check_category
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.rgbd.codec import pack_images
from omote.rgbd.conditions.geometry import GEOMETRY
from omote.rgbd.conditions.motion import NUM_CHANNELS, SIZE, motion_images
from omote.types import Expression

NUM_ARKIT_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A batch of wanted expressions, as tensors.

    Attributes:
        category: index into `CATEGORIES`.
        intensity: [0, 1].
        arkit: weights in [0, 1]; ignored where ``has_arkit`` is False.
        has_category: False drops category and intensity.
        has_arkit: False drops the weights.
        motion: what the weights move of the face (`omote.rgbd.conditions.motion`); zero where they are not given.
        text: tokens of texts (`omote.rgbd.conditions.text`), None if there are none.
        has_text: where a text speaks in the category's place.
        geometry: depth and mask of a packed image of the wanted geometry (`omote.rgbd.conditions.geometry`), None if
            there is none.
        has_geometry: where it is given.
        identity: coefficients of the head fitted to the person, in σ, None if nobody's are known.
        has_identity: where they are given.
        draws: where there is no source and a whole person is drawn; None where all have one.
    """

    category: Int[Tensor, "b"]
    intensity: Float[Tensor, "b"]
    arkit: Float[Tensor, "b 52"]
    has_category: Bool[Tensor, "b"]
    has_arkit: Bool[Tensor, "b"]
    motion: Float[Tensor, "b 9 m m"]
    text: Float[Tensor, "b k"] | None = None
    has_text: Bool[Tensor, "b"] | None = None
    geometry: Float[Tensor, "b 2 s s"] | None = None
    has_geometry: Bool[Tensor, "b"] | None = None
    identity: Float[Tensor, "b i"] | None = None
    has_identity: Bool[Tensor, "b"] | None = None
    draws: Bool[Tensor, "b"] | None = None

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items() if v is not None})

    def dropped(self) -> Condition:
        """The unconditional counterpart."""
        every = torch.ones_like(self.has_category)
        forgotten = self.without(category=every, arkit=every, geometry=every, identity=every)
        return replace(forgotten, text=None, has_text=None)

    def without(self, **forgotten: Bool[Tensor, "b"]) -> Condition:
        """The same with kinds not given where their masks are True.

        Args:
            forgotten: masks of ``category`` (with intensity, or the text in its place), ``arkit``, ``geometry``, ``identity``.
        """
        changes: dict[str, Tensor] = {}
        for kind, mask in forgotten.items():
            given = getattr(self, f"has_{kind}")
            if given is not None:
                changes[f"has_{kind}"] = given & ~mask
        if "category" in forgotten and self.has_text is not None:
            changes["has_text"] = self.has_text & ~forgotten["category"]
        if "arkit" in forgotten:
            # A motion image tells the weights: where they are forgotten, it must be too.
            changes["motion"] = self.motion * ~forgotten["arkit"].view(-1, 1, 1, 1)
        return replace(self, **changes)


def condition_of(expressions: Sequence[Expression], face: RestFace | None = None) -> Condition:
    """Expressions of one face → a `Condition`; weights count where an expression gives them.

    Args:
        expressions: what is wanted; geometry images of one size.
        face: the person in the image; the mean face in the standard camera if None.
    """
    shown = [e.geometry for e in expressions]
    geometry = None
    if any(i is not None for i in shown):
        packed = pack_images([i for i in shown if i is not None])[:, GEOMETRY]
        geometry = packed.new_zeros(len(shown), *packed.shape[1:])
        geometry[[i is not None for i in shown]] = packed
    arkit = np.stack([e.arkit if e.arkit is not None else np.zeros(len(ARKIT_NAMES), np.float32) for e in expressions])
    faces = [face] * len(expressions)
    known = make_condition(
        category=torch.tensor([CATEGORIES.index(check_category(e.category)) for e in expressions]),
        intensity=torch.tensor([float(e.intensity) for e in expressions]),
        arkit=torch.from_numpy(arkit.astype(np.float32)),
        has_category=torch.ones(len(expressions), dtype=torch.bool),
        has_arkit=torch.tensor([e.arkit is not None for e in expressions]),
        faces=faces,
        geometry=geometry,
        has_geometry=None if geometry is None else torch.tensor([i is not None for i in shown]),
    )
    return with_motion(known, faces)


def make_condition(
    *,
    category: Int[Tensor, "b"],
    intensity: Float[Tensor, "b"],
    arkit: Float[Tensor, "b 52"],
    has_category: Bool[Tensor, "b"],
    has_arkit: Bool[Tensor, "b"],
    faces: Sequence[RestFace | None] | None = None,
    geometry: Float[Tensor, "b 2 s s"] | None = None,
    has_geometry: Bool[Tensor, "b"] | None = None,
) -> Condition:
    """A `Condition` with what is known of whose faces these are, and no motion yet (`with_motion`)."""
    known = [None if face is None else face.identity for face in faces or ()]
    identity = has_identity = None
    if any(i is not None for i in known):
        unknown = np.zeros(shipped_head().num_identity)
        identity = torch.from_numpy(np.stack([unknown if i is None else i for i in known]).astype(np.float32))
        has_identity = torch.tensor([i is not None for i in known])
    return Condition(
        category=category,
        intensity=intensity,
        arkit=arkit,
        has_category=has_category,
        has_arkit=has_arkit,
        motion=torch.zeros(len(arkit), NUM_CHANNELS, SIZE, SIZE),
        geometry=geometry,
        has_geometry=has_geometry,
        identity=identity,
        has_identity=has_identity,
    )


def with_motion(condition: Condition, faces: Sequence[RestFace | None] | None = None) -> Condition:
    """The condition with its motion images drawn, where weights are given: the costly part of one.

    Args:
        condition: with weights.
        faces: whom they move; the mean face where None.
    """
    given = condition.has_arkit
    motion = torch.zeros_like(condition.motion)
    if bool(given.any()):
        moving = [faces[int(i)] for i in torch.nonzero(given)] if faces is not None else None
        motion[given] = motion_images(condition.arkit[given], moving)
    return replace(condition, motion=motion)


def drop_conditions(
    condition: Condition,
    draws: Float[Tensor, "b 3"],
    *,
    category: float,
    arkit: float,
    both: float,
    geometry: float = 0.0,
    identity: float = 0.0,
) -> Condition:
    """Guidance dropout: forget each kind with its own probability per item, and all of them with another.

    Args:
        condition: what is known.
        draws: uniform in [0, 1): of category, weights and all, which exclude each other; of the geometry; of the identity.
        category: probability of forgetting it, and keeping the weights.
        arkit: of forgetting the weights, and keeping the category.
        both: of forgetting everything.
        geometry: of forgetting the geometry.
        identity: of forgetting the identity.
    """
    first, second, third = draws.unbind(dim=1)
    nothing = (first >= category) & (first < category + both)
    return condition.without(
        category=first < category + both,
        arkit=nothing | ((first >= category + both) & (first < category + both + arkit)),
        geometry=nothing | (second < geometry),
        identity=nothing | (third < identity),
    )


class ExpressionConditioner(nn.Module):
    """Category, intensity and ARKit weights → context tokens and one pooled vector.

    Tokens: one for category × intensity, `NUM_ARKIT_TOKENS` for the weights.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.category = nn.Embedding(len(CATEGORIES), width)
        self.intensity = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))
        self.no_category = nn.Parameter(torch.zeros(width))
        self.arkit = nn.Sequential(
            nn.Linear(len(ARKIT_NAMES), 2 * width), nn.SiLU(), nn.Linear(2 * width, NUM_ARKIT_TOKENS * width)
        )
        self.no_arkit = nn.Parameter(torch.zeros(NUM_ARKIT_TOKENS, width))
        self.pool = nn.Sequential(nn.Linear((1 + NUM_ARKIT_TOKENS) * width, width), nn.SiLU(), nn.Linear(width, width))

    def expression_token(self, category: Int[Tensor, "b"], intensity: Float[Tensor, "b"]) -> Float[Tensor, "b w"]:
        """The token of a category at an intensity."""
        shown = torch.stack([intensity, intensity**2], dim=1).to(self.no_category.dtype)
        return self.category(category) * (1 + self.intensity(shown))

    def forward(self, condition: Condition) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b w"]]:
        """→ (tokens for cross-attention, pooled vector for the time embedding)."""
        token = self.expression_token(condition.category, condition.intensity)
        token = torch.where(condition.has_category[:, None], token, self.no_category)
        if condition.text is not None and condition.has_text is not None:
            token = torch.where(condition.has_text[:, None], condition.text.to(token.dtype), token)
        units = self.arkit(condition.arkit.to(self.no_category.dtype)).unflatten(1, (NUM_ARKIT_TOKENS, -1))
        units = torch.where(condition.has_arkit[:, None, None], units, self.no_arkit)
        tokens = torch.cat([token[:, None], units], dim=1)
        return tokens, self.pool(tokens.flatten(1))

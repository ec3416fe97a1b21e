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
from omote.ldm.motion import NUM_CHANNELS, SIZE, motion_images
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
        motion: what the weights move of the face (`omote.ldm.motion`); zero where they are not given.
        text: tokens of texts (`omote.ldm.text`), None if there are none.
        has_text: where a text speaks in the category's place.
    """

    category: Int[Tensor, "b"]
    intensity: Float[Tensor, "b"]
    arkit: Float[Tensor, "b 52"]
    has_category: Bool[Tensor, "b"]
    has_arkit: Bool[Tensor, "b"]
    motion: Float[Tensor, "b 9 m m"]
    text: Float[Tensor, "b k"] | None = None
    has_text: Bool[Tensor, "b"] | None = None

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items() if v is not None})

    def dropped(self) -> Condition:
        """The unconditional counterpart."""
        none = torch.zeros_like(self.has_category)
        motion = torch.zeros_like(self.motion)
        return replace(self, has_category=none, has_arkit=none, motion=motion, text=None, has_text=None)


def condition_of(expressions: Sequence[Expression], face: RestFace | None = None) -> Condition:
    """Expressions of one face → a `Condition`; weights count where an expression gives them.

    Args:
        expressions: what is wanted.
        face: the person in the image; the mean face in the standard camera if None.
    """
    arkit = np.stack([e.arkit if e.arkit is not None else np.zeros(len(ARKIT_NAMES), np.float32) for e in expressions])
    return make_condition(
        category=torch.tensor([CATEGORIES.index(check_category(e.category)) for e in expressions]),
        intensity=torch.tensor([float(e.intensity) for e in expressions]),
        arkit=torch.from_numpy(arkit.astype(np.float32)),
        has_category=torch.ones(len(expressions), dtype=torch.bool),
        has_arkit=torch.tensor([e.arkit is not None for e in expressions]),
        faces=[face] * len(expressions),
    )


def make_condition(
    *,
    category: Int[Tensor, "b"],
    intensity: Float[Tensor, "b"],
    arkit: Float[Tensor, "b 52"],
    has_category: Bool[Tensor, "b"],
    has_arkit: Bool[Tensor, "b"],
    faces: Sequence[RestFace | None] | None = None,
) -> Condition:
    """A `Condition` with its motion images drawn, where weights are given."""
    motion = torch.zeros(len(arkit), NUM_CHANNELS, SIZE, SIZE)
    if bool(has_arkit.any()):
        moving = [faces[int(i)] for i in torch.nonzero(has_arkit)] if faces is not None else None
        motion[has_arkit] = motion_images(arkit[has_arkit], moving)
    return Condition(
        category=category,
        intensity=intensity,
        arkit=arkit,
        has_category=has_category,
        has_arkit=has_arkit,
        motion=motion,
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

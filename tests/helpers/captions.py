"""The held-out captions that tests read."""

from __future__ import annotations

import numpy as np

from omote.head.expressions import CATEGORIES
from omote.rgbd.conditions.text.captions import Caption, draw_caption
from omote.rgbd.conditions.text.words import LANGUAGES


def held_out_captions(per_category: int = 20, *, seed: int = 0) -> list[Caption]:
    """The fixed held-out set, balanced over categories and languages."""
    rng = np.random.default_rng([7, seed])
    return [
        draw_caption(rng, language=language, category=category, split="test")
        for language in LANGUAGES
        for category in CATEGORIES
        for _ in range(per_category)
    ]

"""Expressions of your own: a category at an intensity, ARKit weights, and words.

    python examples/02_own_expressions.py scan.ply avatar.glb "slightly disgusted" "笑っている顔"

Words need the text encoders: pip install 'omote[text]'.
"""

import sys

import omote
from omote.api import AvatarSettings
from omote.datasets.demo_frame import sensed_frame
from omote.head.expressions import arkit_weights
from omote.head.shipped import shipped_head
from omote.types import Expression


def main(scan: str | None = None, out: str = "avatar.glb", *words: str) -> None:
    """Make an avatar with three kinds of expression."""
    half_a_smile = Expression(category="happy", intensity=0.5)
    # A name without a side sets both sides; `omote.head.expressions.ARKIT_NAMES` lists the 52 names.
    smirk = Expression(category="disgusted", arkit=arkit_weights({"mouthSmileLeft": 0.8, "browOuterUpLeft": 0.6}))
    settings = AvatarSettings(expressions=(half_a_smile, smirk), text=words, seed=3)
    result = omote.avatar(scan if scan is not None else sensed_frame(0, shipped_head()), settings)
    result.save(out)
    print(f"{out}: {', '.join(expression.name for expression in result.expressions)}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A sheet of random people, to look at: ``python scripts/appearance_sheet.py out/people.png [--ict PATH] [--size 128]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from omote.geometry.camera import orbit_camera
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.ict import ict_head
from omote.head.shipped import shipped_head
from omote.rendering.appearance import random_appearance
from omote.rendering.rgbd import render_head
from omote.rendering.shade import random_light


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ict", type=Path, help="ICT-FaceKit instead of the shipped head")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    head = ict_head(given.ict) if given.ict else shipped_head()
    tiles = []
    for k in range(given.rows * given.columns):
        rng = np.random.default_rng([given.seed, k])
        identity = np.clip(0.75 * rng.standard_normal(head.num_identity), -2.2, 2.2)
        expression = draw_expression(CATEGORIES[k % len(CATEGORIES)], rng).arkit
        yaw, pitch = np.deg2rad(10) * rng.standard_normal(2)
        image = render_head(
            head, head.vertices(identity, expression), orbit_camera(size=given.size, yaw_rad=yaw, pitch_rad=pitch / 2),
            appearance=random_appearance(rng), light=random_light(rng), background=rng.uniform(0.1, 0.9, 3),
        )  # fmt: skip
        tiles.append(image.rgb)
    sheet = np.concatenate(
        [np.concatenate(tiles[r * given.columns : (r + 1) * given.columns], axis=1) for r in range(given.rows)]
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet * 255 + 0.5).astype(np.uint8)).save(given.out)


if __name__ == "__main__":
    main()

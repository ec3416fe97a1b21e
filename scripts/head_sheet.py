"""Close-up sheets of the shipped head: every unit, the categories, random persons.

    python scripts/head_sheet.py --out /tmp/sheets

Writes neutral.png, units_*.png, categories.png, persons.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from omote.geometry.camera import orbit_camera
from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES, CATEGORIES, RECIPES, arkit_weights
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.rendering.appearance import default_appearance, paint, random_appearance
from omote.rendering.rgbd import render_head

VIEWS = {
    "face": {"field_mm": 190.0, "target_mm": np.array([0.0, -22.0, 70.0 * 0])},
    "mouth": {"field_mm": 95.0, "target_mm": np.array([0.0, -68.0, 20.0])},
    "eyes": {"field_mm": 120.0, "target_mm": np.array([0.0, 4.0, 10.0])},
    "eye": {"field_mm": 62.0, "target_mm": np.array([33.0, 2.0, 10.0])},
    "head": {"field_mm": 330.0, "target_mm": np.array([0.0, -20.0, -40.0])},
}


def shot(head: HeadModel, vertices: np.ndarray, view: str, *, size: int, yaw: float = 0.0, pitch: float = 0.0,
         albedo: np.ndarray | None = None, appearance=None) -> Image.Image:  # fmt: skip
    camera = orbit_camera(size=size, yaw_rad=yaw, pitch_rad=pitch, **VIEWS[view])
    image = render_head(head, vertices, camera, albedo=albedo, appearance=appearance)
    return Image.fromarray((np.clip(image.rgb, 0, 1) * 255).astype(np.uint8))


def sheet(cells: list[tuple[str, Image.Image]], columns: int, path: Path) -> None:
    size = cells[0][1].width
    rows = -(-len(cells) // columns)
    page = Image.new("RGB", (columns * size, rows * size), (30, 30, 30))
    for i, (title, picture) in enumerate(cells):
        ImageDraw.Draw(picture).text((4, 2), title, fill=(255, 240, 60))
        page.paste(picture, ((i % columns) * size, (i // columns) * size))
    page.save(path)


def view_of(name: str) -> str:
    if name.startswith(("eye", "brow", "cheekSquint")):
        return "eyes"
    return "mouth" if name.startswith(("mouth", "tongue")) else "face"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=["neutral", "units", "categories", "persons"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    head = shipped_head()
    look = default_appearance()
    albedo = paint(head, look)

    def draw(title: str, vertices: np.ndarray, view: str, **kwargs) -> tuple[str, Image.Image]:
        kwargs = {"albedo": albedo, "appearance": look, "size": args.size, **kwargs}
        return title, shot(head, vertices, view, **kwargs)

    rest = head.template_mm
    if "neutral" in args.only:
        cells = [draw("front", rest, "face"), draw("half", rest, "face", yaw=0.7), draw("side", rest, "head", yaw=1.5),
                 draw("back", rest, "head", yaw=3.1), draw("eyes", rest, "eyes"), draw("eye", rest, "eye"),
                 draw("eye half", rest, "eye", yaw=0.8), draw("mouth", rest, "mouth"),
                 draw("mouth half", rest, "mouth", yaw=0.8), draw("below", rest, "face", pitch=-0.6),
                 draw("above", rest, "face", pitch=0.6), draw("mouth below", rest, "mouth", pitch=-0.5)]  # fmt: skip
        sheet(cells, 4, args.out / "neutral.png")
    if "units" in args.only:
        groups = {"eyes": [], "mouth": [], "face": []}
        for name in ARKIT_NAMES:
            groups[view_of(name)].append(name)
        for view, names in groups.items():
            cells = []
            for name in names:
                weight = np.zeros(52, np.float32)
                weight[ARKIT_INDEX[name]] = 1.0
                vertices = head.vertices(expression=weight)
                cells.append(draw(name, vertices, view))
                if view != "eyes":
                    cells.append(draw(name, vertices, view, yaw=0.7))
            sheet(cells, 6, args.out / f"units_{view}.png")
    if "categories" in args.only:
        cells = []
        for category in CATEGORIES:
            recipes = RECIPES[category]
            for k in range(3):
                weight = arkit_weights(recipes[k % len(recipes)].weights)
                vertices = head.vertices(expression=weight)
                cells.append(draw(f"{category} {k}", vertices, "face", yaw=0.0 if k < len(recipes) else 0.6))
        sheet(cells, 6, args.out / "categories.png")
    if "persons" in args.only:
        rng = np.random.default_rng(7)
        cells = []
        for k in range(24):
            vertices = head.vertices(identity=rng.normal(size=head.num_identity).astype(np.float32))
            person = random_appearance(rng) if k >= 12 else look
            cells.append(draw(str(k), vertices, "face", yaw=0.0 if k % 2 == 0 else 0.5, albedo=paint(head, person),
                              appearance=person))  # fmt: skip
        sheet(cells, 6, args.out / "persons.png")


if __name__ == "__main__":
    main()

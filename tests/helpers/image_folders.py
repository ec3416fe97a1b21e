"""Made-up folders of images."""

import json

import numpy as np
from PIL import Image


def make_images(folder, count=12, classes=("red", "blue"), side=(40, 52), captions=True):
    """Discs on a ground, red or blue, in a subfolder a class, with captions in metadata.jsonl."""
    rng, rows = np.random.default_rng(0), []
    height, width = side
    y, x = np.mgrid[0:height, 0:width]
    for i in range(count):
        label = classes[i % len(classes)] if classes else ""
        (folder / label).mkdir(parents=True, exist_ok=True)
        image = np.full((height, width, 3), 200, np.uint8)
        centre = rng.uniform(0.3, 0.7, 2) * side
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (0.2 * height) ** 2
        image[disc] = (220, 30, 30) if label == "red" else (30, 30, 220)
        name = f"{label}/{i:03d}.png" if label else f"{i:03d}.png"
        Image.fromarray(image).save(folder / name)
        rows.append({"file_name": name, "text": f"a {label} disc"})
    if captions:
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder

"""Pictures of a person's rows for the report: colour, depth and depth error in one small PNG per row.

No number is computed from them: they are 8-bit and reduced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from omote.datasets.population import Person
from omote.evaluation.records import PersonRecords, Row
from omote.evaluation.summary import CEILING, per_person
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.rendering.pictures import depth_colors
from omote.types import Rgbd

CELL_PX = 96
NAME_PX = 170
SHEET_ROWS = ("ceiling", "model", "head_edit", "deformation_transfer", "regression", "pixel_diffusion")
MODEL = Row("model")
MAX_ERROR_MM = 10.0
# Black, violet, orange, pale yellow: monotone in lightness, so that it is readable in print and with colour blindness.
ERROR_COLORS = ((0.0, 0.0, 0.02), (0.34, 0.06, 0.43), (0.73, 0.21, 0.33), (0.98, 0.56, 0.04), (0.99, 1.0, 0.64))
OUTSIDE = 0.12  # grey where the true render shows no head
NUM_COLORS = 256


def picture_path(folder: Path, index: int, row: str) -> Path:
    """Path of a person's picture of a row."""
    return folder / f"{index:06d}_{row}.png"


def save_pictures(folder: Path, person: Person, images: Mapping[Row, Sequence[Rgbd]], truth: Sequence[Rgbd]) -> None:
    """Write the pictures of the rows on a sheet, with expressions in the order of `CATEGORIES`.

    Args:
        folder: folder ``images`` of a result folder.
        person: person in the pictures.
        images: images per row, in the person's own order.
        truth: true renders, the source first.
    """
    order = sorted(range(len(truth)), key=lambda k: CATEGORIES.index(person.expressions[k].category))
    for row, seen in images.items():
        if row.name not in SHEET_ROWS:
            continue
        # The true render has no error; its third strip shows the error of the face at rest instead.
        compared = [truth[0]] * len(truth) if row.name == CEILING else seen
        picture = row_picture([seen[k] for k in order], [compared[k] for k in order], [truth[k] for k in order])
        with atomic_path(picture_path(folder, person.index, row.name)) as temporary:
            # A palette halves the file's size, without a visible difference at this size.
            Image.fromarray(picture).quantize(NUM_COLORS, dither=Image.Dither.NONE).save(
                temporary, "PNG", optimize=True
            )


def row_picture(
    images: Sequence[Rgbd], compared: Sequence[Rgbd], truth: Sequence[Rgbd]
) -> UInt8[np.ndarray, "height width 3"]:
    """Three strips of cells: the images' colour, their depth, and the depth error of ``compared`` against the truth."""
    strips = (
        [i.rgb for i in images],
        [depth_colors(i) for i in images],
        [error_picture(i, t) for i, t in zip(compared, truth, strict=True)],
    )
    return np.concatenate([np.concatenate([_cell(x) for x in strip], axis=1) for strip in strips])


def save_strips(path: Path, images: Mapping[Row, Sequence[Rgbd]]) -> None:
    """Write a person's rows as one picture: a strip of colour images each, labelled with the row's name."""
    strips = [np.concatenate([_cell(image.rgb) for image in row], axis=1) for row in images.values()]
    picture = Image.new("RGB", (NAME_PX + strips[0].shape[1], CELL_PX * len(strips)), "white")
    draw = ImageDraw.Draw(picture)
    for k, (row, strip) in enumerate(zip(images, strips, strict=True)):
        draw.text((6, CELL_PX * k + CELL_PX // 2 - 6), str(row), fill="black")
        picture.paste(Image.fromarray(strip), (NAME_PX, CELL_PX * k))
    with atomic_path(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)


def error_picture(image: Rgbd, truth: Rgbd) -> Float[np.ndarray, "h w 3"]:
    """|depth - truth| from 0 (black) to `MAX_ERROR_MM` (pale) inside the true mask; a hole counts as the largest error."""
    error = np.where(image.mask, np.abs(image.depth_mm - truth.depth_mm), np.inf)
    t = np.clip(error / MAX_ERROR_MM, 0, 1)
    at, colors = np.linspace(0, 1, len(ERROR_COLORS)), np.array(ERROR_COLORS)
    picture = np.stack([np.interp(t, at, colors[:, k]) for k in range(3)], axis=-1)
    return np.where(truth.mask[..., None], picture, OUTSIDE)


def _cell(picture: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "c c 3"]:
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((CELL_PX, CELL_PX), Image.Resampling.BOX))


def sheet_persons(
    persons: Sequence[PersonRecords], row: Row = MODEL, metric: str = "depth/mae_mm_moving"
) -> dict[str, int]:
    """Indices of the best, median and worst person by the row's mean of an error, by default of depth over moving pixels.

    Persons without the error are not ranked; with fewer than three persons, some names are left out.
    """
    errors = per_person(persons, metric, row)
    if errors is None:
        return {}
    measured = np.flatnonzero(~np.isnan(errors))
    ranked = measured[np.argsort(errors[measured], kind="stable")].tolist()
    picked = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    out: dict[str, int] = {}
    for name, place in picked.items():
        if ranked and ranked[place] not in out.values():
            out[name] = ranked[place]
    return out

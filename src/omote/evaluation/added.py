"""What is measured of a row's images beside the release suite's first measures, and how it is summed up.

Results of earlier versions lack some of these: a metric is summed up where every person has it, and left out elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from omote.evaluation import metrics
from omote.evaluation.surfaces import depth_normals
from omote.head.expressions import CATEGORIES
from omote.types import Camera

# Per image and averaged over images: key in a person's file → key in metrics.json, and whether neutral counts.
AVERAGED = {
    "ssim": ("color/ssim", False),
    "silog": ("depth/silog", True),
    "delta2": ("depth/delta2", True),
    "delta3": ("depth/delta3", True),
    "normals": ("depth/normals_deg", True),
    "still": ("depth/mae_mm_still", True),
    # Cosine distance by a user's own network, which names it.
    "identity_arcface_r50": ("identity/arcface_r50", False),
    "identity_arcface_r100": ("identity/arcface_r100", False),
}
# What moves by less stays where it is: forehead, bridge of the nose, ears.
STILL_MM = 0.1


def added_measures(
    rgb: Float[np.ndarray, "n h w 3"],
    depth_mm: Float[np.ndarray, "n h w"],
    true_rgb: Float[np.ndarray, "n h w 3"],
    true_depth_mm: Float[np.ndarray, "n h w"],
    true_mask: Bool[np.ndarray, "n h w"],
    camera: Camera,
    source_depth_mm: Float[np.ndarray, "n h w"],
    source_mask: Bool[np.ndarray, "n h w"],
) -> dict[str, list[float]]:
    """The measures of one row's images, by their keys in a person's file.

    Args:
        rgb: [0, 1].
        depth_mm: with holes answered.
        true_rgb: of the true renders.
        true_depth_mm: of the true renders.
        true_mask: the pixels that count.
        camera: of all images.
        source_depth_mm: of the true render of what the source shows.
        source_mask: where it has depth.
    """
    errors = metrics.depth_errors(depth_mm, true_depth_mm, true_mask)
    # Where the truth's own neighbours are all seen; the row has depth everywhere.
    truth = depth_normals(true_depth_mm, true_mask, camera.intrinsics)
    shown = depth_normals(depth_mm, np.ones_like(true_mask), camera.intrinsics)
    normals = metrics.normals_error_deg(shown.normals, truth.normals, truth.mask)
    still = true_mask & source_mask & (np.abs(true_depth_mm - source_depth_mm) < STILL_MM)
    values = {
        "still": metrics.depth_errors(depth_mm, true_depth_mm, still).mae_mm,
        "ssim": metrics.ssim(rgb, true_rgb, true_mask),
        "silog": errors.silog,
        "delta2": errors.delta2,
        "delta3": errors.delta3,
        "normals": normals,
    }
    return {key: value.tolist() for key, value in values.items()}


def summarise_added(persons: Sequence[Mapping[str, object]], judges: Sequence[str]) -> dict[str, float]:
    """Per-person results → flat keys ``<metric>/<row>``, of what every person has.

    Args:
        persons: their files.
        judges: names of the expression judges.
    """
    shared = set(persons[0]).intersection(*persons)

    def column(key: str) -> Float[np.ndarray, "p k"]:
        return np.array([p[key] for p in persons], dtype=np.float64)

    category = column("category").astype(int)
    moved = category != CATEGORIES.index("neutral")
    out: dict[str, float] = {}
    for key, (name, with_neutral) in AVERAGED.items():
        for row in _rows_of(shared, key):
            values = column(f"{key}/{row}")
            out[f"{name}/{row}"] = metrics.mean_over_images(values.ravel() if with_neutral else values[moved])
    for judge in judges:
        rows = _rows_of(shared, f"asked_{judge}")
        asked = {row: column(f"asked_{judge}/{row}") for row in rows}
        intensity = column("intensity")[moved]
        for row in rows:
            # The judge's probability of the asked category stands for the intensity that it sees.
            out[f"expression/cls_{judge}/{row}"] = metrics.intensity_correlation(
                intensity, asked[row][moved], category[moved]
            )
            if {"copy_source", "ceiling"} <= set(rows):
                out[f"expression/gain_{judge}/{row}"] = metrics.relative_expression_gain(
                    asked[row][moved], asked["copy_source"][moved], asked["ceiling"][moved]
                )
    return out


def _rows_of(keys: set[str], measure: str) -> list[str]:
    return sorted(key.partition("/")[2] for key in keys if key.startswith(f"{measure}/"))

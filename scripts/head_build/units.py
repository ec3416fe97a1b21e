"""The 52 ARKit units: MakeHuman's face units, repaired where they were weak, too strong, or collide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from head_build import mouth_parts, repair
from head_build.identity import rigid
from head_build.makehuman import TEETH_LOWER, BaseMesh, read_target
from head_build.topology import Cage
from omote.head.expressions import ARKIT_NAMES

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Strength against light-stage scans of the same units (rms ratios); milder than the full ratio where it would fold.
GAIN = {"mouthShrugLower": 1.45, "noseSneer": 1.7, "mouthRollLower": 1.7, "browOuterUp": 1.7, "cheekPuff": 1.6,
        "mouthFunnel": 1.45, "browInnerUp": 1.55, "mouthUpperUp": 1.5, "mouthPress": 0.3}  # fmt: skip


# Units that keep the lips closed.
TOUCHING = ("mouthShrugLower", "mouthPress", "mouthPucker", "mouthFrown", "mouthRollLower", "mouthRollUpper", "jawForward",
            "jawLeft", "jawRight", "cheekPuff", "mouthDimple", "mouthLeft", "mouthRight", "mouthSmile")  # fmt: skip
TONGUE_JAW = 0.22  # of jawOpen


def build_units(
    base: BaseMesh,
    cage: Cage,
    data: Path,
    rest: np.ndarray,
    place: dict[str, np.ndarray],
    heads: Any,
    frame: np.ndarray,
    operator: csr_matrix,
) -> dict[str, Any]:
    """Offsets at weight 1.

    Returns:
        ``skin``: name → fine skin offsets; ``jaw``: function from points on the lower jaw to name → offsets;
        ``tongue_out``: function from tongue points to offsets.
    """
    shapes, jaws = {}, {}
    for name in ARKIT_NAMES:
        raw = read_target(data / f"faceunits01/targets/faceunits/{name}.target", len(base.vertices_mm)) @ frame.T
        gain = next((g for key, g in GAIN.items() if name.startswith(key)), 1.0)
        shapes[name] = gain * raw[cage.ids]
        teeth = raw[TEETH_LOWER]
        if np.abs(teeth).max() > 0.1:
            start = base.vertices_mm[TEETH_LOWER] @ frame.T
            start = start - start.mean(axis=0) + place["lower"]
            jaws[name] = rigid(start, start + teeth)
    jaws["tongueOut"] = rigid(start, start + TONGUE_JAW * _jaw_teeth(base, data, frame))
    _sculpt(rest, shapes, heads)
    for side in ("left", "right"):
        name = f"eyeBlink{side.capitalize()}"
        shapes[name] = repair.close_lids(rest, shapes[name], heads.openings.lids[side], cage.quads)
    for name, shape in shapes.items():
        if name.startswith("eye") or name.startswith(("cheekSquint", "brow", "noseSneer")):
            moved = rest + shape
            for side in ("left", "right"):
                repair.seat_lids(moved, heads.openings.lids[side], place[f"eye_{side}"], float(place["radius"]))
            shape = moved - rest
            for side in ("left", "right"):
                shape = repair.clear_ball(rest, shape, operator, place[f"eye_{side}"], float(place["radius"]))
            shapes[name] = shape

    def jaw(points: np.ndarray) -> dict[str, np.ndarray]:
        return {name: points @ rotation.T + shift - points for name, (rotation, shift) in jaws.items()}

    return {
        "skin": {n: operator @ s for n, s in shapes.items()},
        "jaw": jaw,
        "tongue_out": _tongue_out(rest, heads),
    }


def _jaw_teeth(base: BaseMesh, data: Path, frame: np.ndarray) -> np.ndarray:
    raw = read_target(data / "faceunits01/targets/faceunits/jawOpen.target", len(base.vertices_mm))
    return (raw @ frame.T)[TEETH_LOWER]


def _sculpt(rest: np.ndarray, shapes: dict[str, np.ndarray], heads: Any) -> None:
    """Reshape, in place, the units whose form was wrong."""
    quads = heads.cage.quads
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        half = 1 / (1 + np.exp(-sign * rest[:, :1] / 4.0))  # 1 on that side
        # Pressed lips (AU 24): both lips roll in and narrow; MakeHuman's unit only shifts the corner.
        press = 0.34 * half * (shapes["mouthRollUpper"] + shapes["mouthRollLower"])
        shapes[f"mouthPress{side}"] += press
        # A sneer (AU 9) also lifts the upper lip.
        shapes[f"noseSneer{side}"] += 0.35 * shapes[f"mouthUpperUp{side}"]
        shapes[f"browOuterUp{side}"] = repair.smoothed(shapes[f"browOuterUp{side}"], quads, 12)
    for name in TOUCHING:
        both = [name] if name in shapes else [f"{name}Left", f"{name}Right"]
        for unit in both:
            give = 0.6 if unit == "mouthShrugLower" else 0.5
            shapes[unit] = repair.part_lips(rest, shapes[unit], heads.upper, heads.lower, give_upper=give)
    # A tongue needs parted lips.
    shapes["tongueOut"] = shapes["tongueOut"] + TONGUE_JAW * shapes["jawOpen"]


def lip_line(rest: np.ndarray, heads: Any) -> np.ndarray:
    """(x, y, z) along the lips' contact, right corner to left."""
    k = repair.NUM_INNER + 1
    upper, lower = heads.upper[k], heads.lower[k]
    x = rest[upper, 0]
    low = np.stack([np.interp(x, rest[lower, 0], rest[lower, c]) for c in range(3)], axis=1)
    return (rest[upper] + low) / 2


def _arches(rest: np.ndarray, heads: Any) -> dict[str, mouth_parts.Arch]:
    line = lip_line(rest, heads)
    middle = line[len(line) // 2]
    inner = [
        rest[half[len(half) // 2], 2] for rows in (heads.upper, heads.lower) for half in rows[: repair.NUM_INNER + 1]
    ]
    front = min(inner)
    return {
        "upper": mouth_parts.Arch(half_width=25.0, length=40.0, front_z=front - 1.2, edge_y=middle[1] - 2.4),
        "lower": mouth_parts.Arch(half_width=23.0, length=38.5, front_z=front - 3.8, edge_y=middle[1] - 2.2),
    }


def mouth_meshes(heads: Any, rest: np.ndarray, place: dict[str, np.ndarray], operator: csr_matrix) -> list:
    """(arch name, part label, follows the jaw, mesh) of teeth, gums and tongue."""
    arches = _arches(rest, heads)
    upper, upper_gum = mouth_parts.teeth("upper", arches["upper"])
    lower, lower_gum = mouth_parts.teeth("lower", arches["lower"])
    tongue = mouth_parts.tongue(
        half_width=arches["lower"].half_width - 8.5, tip_z=arches["lower"].front_z - 7.5, length=46.0,
        top_y=arches["lower"].edge_y - 1.0, thickness=13.0,
    )  # fmt: skip
    return [
        ("upper", "teeth_upper", False, upper), ("upper", "mouth", False, upper_gum),
        ("lower", "teeth_lower", True, lower), ("lower", "mouth", True, lower_gum), ("lower", "tongue", True, tongue),
    ]  # fmt: skip


def _tongue_out(rest: np.ndarray, heads: Any) -> Callable[[np.ndarray], np.ndarray]:
    lips = lip_line(rest, heads)
    middle = lips[len(lips) // 2]

    def offsets(points: np.ndarray) -> np.ndarray:
        tip, back = points[:, 2].max(), points[:, 2].min()
        s = (points[:, 2] - back) / (tip - back)
        reach = middle[2] + 16.0
        z = back + (reach - back) * s
        flat = 1 - 0.45 * np.clip((s - 0.3) / 0.4, 0, 1)
        center = points[:, 1].mean()
        at_lips = (middle[2] - back) / (reach - back)
        lift = (middle[1] - 1.0 - center) * np.clip(s / at_lips, 0, 1) ** 2
        droop = -9.0 * np.clip((s - at_lips) / (1 - at_lips), 0, 1) ** 2
        y = center + (points[:, 1] - center) * flat + lift + droop
        return np.stack([points[:, 0] * (1 - 0.12 * s), y, z], axis=1) - points

    return offsets

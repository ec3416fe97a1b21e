"""Avatar → VRM 1.0: the head on a minimal humanoid skeleton, with expressions, gaze and a licence.

The skeleton holds the required bones, neck and eyes. A scan of a head tells nothing of the body's, so those have the
proportions of an adult of 1.70 m; head, neck and eyes lie where the person's are. All skin follows the head bone.

Source: VRM Consortium, "VRMC_vrm 1.0" (specification/VRMC_vrm-1.0: humanoid, meta, expressions, lookAt).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from omote.asset.file_settings import VrmMeta
from omote.asset.glb import head_mesh, sign, surroundings_mesh
from omote.asset.gltf_file import GltfFile
from omote.asset.materials import Materials, materials_of
from omote.asset.primitives import MM_PER_M, Primitive, split_primitives
from omote.files import atomic_path
from omote.head.expressions import ARKIT_NAMES, CATEGORIES, FORMS, arkit_weights
from omote.head.eyes import LOOK_DOWN_RAD, LOOK_SIDE_RAD, LOOK_UP_RAD
from omote.head.fit import eyeball_centers
from omote.head.model import HeadModel
from omote.types import Avatar

EYE_HEIGHT_M = 1.58
# Bone → (parent, place in metres: x to the person's left, y up from the floor, z forward), arms stretched out. Neck, head
# and eyes are replaced by the person's.
BODY: Mapping[str, tuple[str | None, tuple[float, float, float]]] = {
    "hips": (None, (0.0, 0.92, 0.0)),
    "spine": ("hips", (0.0, 1.03, 0.0)),
    "neck": ("spine", (0.0, 1.40, 0.0)),
    "head": ("neck", (0.0, 1.50, 0.0)),
    **{
        f"{side}{bone}": (f"{side}{parent}" if parent[0].isupper() else parent, (sign_x * x, y, 0.0))
        for side, sign_x in (("left", 1.0), ("right", -1.0))
        for bone, parent, x, y in (
            ("Eye", "head", 0.03, EYE_HEIGHT_M),
            ("UpperArm", "spine", 0.18, 1.38),
            ("LowerArm", "UpperArm", 0.45, 1.38),
            ("Hand", "LowerArm", 0.70, 1.38),
            ("UpperLeg", "hips", 0.09, 0.87),
            ("LowerLeg", "UpperLeg", 0.09, 0.48),
            ("Foot", "LowerLeg", 0.09, 0.08),
        )
    },
}
# Where the head turns on the neck, from the middle of the jaw's upper ends: the atlas, mm.
ATLAS_MM = (0.0, -22.0, -8.0)
# Expressions of VRM 1.0 that are no category of ours, as ARKit weights (a name without a side stands for both).
PRESETS: Mapping[str, Mapping[str, float]] = {
    "relaxed": {"mouthSmile": 0.35, "eyeBlink": 0.2, "cheekSquint": 0.15, "browInnerUp": 0.1},
    "aa": {"jawOpen": 0.55, "mouthLowerDown": 0.2},
    "ih": {"jawOpen": 0.18, "mouthStretch": 0.35, "mouthSmile": 0.15, "mouthLowerDown": 0.25},
    "ou": {"jawOpen": 0.12, "mouthPucker": 0.75, "mouthFunnel": 0.25},
    "ee": {"jawOpen": 0.12, "mouthSmile": 0.45, "mouthStretch": 0.3, "mouthLowerDown": 0.3},
    "oh": {"jawOpen": 0.35, "mouthFunnel": 0.7},
    "blink": {"eyeBlink": 1.0},
    "blinkLeft": {"eyeBlinkLeft": 1.0},
    "blinkRight": {"eyeBlinkRight": 1.0},
    "lookUp": {"eyeLookUp": 1.0},
    "lookDown": {"eyeLookDown": 1.0},
    "lookLeft": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    "lookRight": {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
}
PRESET_CATEGORIES = ("neutral", "happy", "angry", "sad", "surprised")


def write_vrm(
    avatar: Avatar,
    model: HeadModel,
    path: Path | str,
    *,
    materials: Materials | None = None,
    meta: VrmMeta | None = None,
) -> int:
    """Write an avatar as VRM 1.0 and return its size in bytes.

    Args:
        avatar: neutral, morphs with all ARKit units, and skin texture.
        model: the head model that ``avatar.neutral`` belongs to.
        path: file name; written atomically.
        materials: materials of eyes, teeth, tongue and mouth; those of the default appearance if None.
        meta: name and licence; those of `VrmMeta` if None.

    Raises:
        OutputError: the file cannot be written.
    """
    data = vrm_bytes(avatar, model, name=Path(path).stem, materials=materials, meta=meta)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def vrm_bytes(
    avatar: Avatar,
    model: HeadModel,
    *,
    name: str = "avatar",
    materials: Materials | None = None,
    meta: VrmMeta | None = None,
) -> bytes:
    """An avatar as the bytes of a VRM file; see `write_vrm`."""
    materials = materials_of() if materials is None else materials
    names, primitives = split_primitives(model, avatar.neutral.vertices_mm, avatar.morphs_mm)

    file = GltfFile()
    raised = np.array([0.0, EYE_HEIGHT_M, 0.0])
    places = _bones(model, avatar.neutral.vertices_mm)
    bones = _add_bones(file, places)
    joints = ("head", "leftEye", "rightEye")

    attributes = {p.name: _weights(file, p) for p in primitives}
    stood = [_raised(p, raised) for p in primitives]
    mesh = head_mesh(file, names, stood, materials, avatar, attributes=attributes)
    skin = file.add("skins", {
        "joints": [bones[joint] for joint in joints],
        "skeleton": bones["hips"],
        "inverseBindMatrices": file.accessor(np.stack([_inverse(places[joint]) for joint in joints]), "MAT4", target=None),
    })  # fmt: skip

    head = file.add("nodes", {"name": "face", "mesh": mesh, "skin": skin})
    if avatar.surroundings is not None:
        # A rigid piece hangs on the bone itself.
        around = file.add("nodes", {
            "name": "surroundings", "mesh": surroundings_mesh(file, avatar.surroundings),
            "translation": (raised - places["head"]).tolist(),
        })  # fmt: skip
        file.root["nodes"][bones["head"]]["children"].append(around)

    file.add("scenes", {"name": "omote", "nodes": [bones["hips"], head]})
    file.use("VRMC_vrm")
    file.root["extensions"] = {
        "VRMC_vrm": {
            "specVersion": "1.0",
            "meta": (meta or VrmMeta()).entry(name),
            "humanoid": {"humanBones": {bone: {"node": node} for bone, node in bones.items()}},
            "firstPerson": {"meshAnnotations": [{"node": head, "type": "auto"}]},
            "lookAt": _look_at(raised - places["head"]),
            "expressions": _expressions(names, head, avatar),
        }
    }
    sign(file, avatar)
    return file.to_bytes()


def _bones(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> dict[str, Float[np.ndarray, "3"]]:
    """Places of the bones in metres, the person's eyes at `EYE_HEIGHT_M`."""
    places = {bone: np.array(place) for bone, (_, place) in BODY.items()}
    landmarks = model.landmarks(neutral_mm)
    atlas = landmarks[[0, 16]].mean(axis=0) + ATLAS_MM
    skin = neutral_mm[model.part_vertices("skin")]
    lowest = skin[skin[:, 1] < skin[:, 1].min() + 15.0]
    found = {"head": atlas, "neck": (lowest.min(axis=0) + lowest.max(axis=0)) / 2}
    if len(model.part_vertices("eye_left")) and len(model.part_vertices("eye_right")):
        found |= dict(zip(("leftEye", "rightEye"), eyeball_centers(model, neutral_mm), strict=True))
    raised = np.array([0.0, EYE_HEIGHT_M, 0.0])
    return places | {bone: place / MM_PER_M + raised for bone, place in found.items()}


def _add_bones(file: GltfFile, places: Mapping[str, Float[np.ndarray, "3"]]) -> dict[str, int]:
    """Nodes of the skeleton by bone."""
    bones = {bone: file.add("nodes", {"name": bone, "children": []}) for bone in BODY}
    for bone, (parent, _) in BODY.items():
        start = np.zeros(3) if parent is None else places[parent]
        file.root["nodes"][bones[bone]]["translation"] = [round(float(x), 6) for x in places[bone] - start]
        if parent is not None:
            file.root["nodes"][bones[parent]]["children"].append(bones[bone])
    for bone, node in bones.items():
        if not file.root["nodes"][node]["children"] and bone != "head":
            del file.root["nodes"][node]["children"]
    return bones


def _inverse(place: Float[np.ndarray, "3"]) -> Float[np.ndarray, "16"]:
    """Inverse bind matrix of a bone that is not turned, column by column."""
    matrix = np.eye(4, dtype=np.float32)
    matrix[3, :3] = -np.round(place, 6)
    return matrix.ravel()


def _weights(file: GltfFile, p: Primitive) -> dict[str, int]:
    """Accessors of the bones that each vertex follows: the eyes their own, everything else the head."""
    joints = np.zeros((len(p.positions), 4), np.uint8)
    if p.name == "eyes":
        joints[:, 0] = np.where(p.positions[:, 0] > 0, 1, 2)
    weights = np.zeros(joints.shape, np.uint8)
    weights[:, 0] = 255
    return {
        "JOINTS_0": file.accessor(joints, "VEC4"),
        "WEIGHTS_0": file.accessor(weights, "VEC4", normalized=True),
    }


def _raised(p: Primitive, raised: Float[np.ndarray, "3"]) -> Primitive:
    return replace(p, positions=(p.positions + raised).astype(np.float32))


def _look_at(eyes_from_head: Float[np.ndarray, "3"]) -> dict[str, Any]:
    """Gaze by expressions, because lids move along with our eyes, at the angles that the units turn them by."""

    def reach(angle_rad: float) -> dict[str, float]:
        return {"inputMaxValue": round(float(np.rad2deg(angle_rad)), 3), "outputScale": 1.0}

    return {
        "type": "expression",
        "offsetFromHeadBone": [round(float(x), 6) for x in eyes_from_head],
        "rangeMapHorizontalInner": reach(LOOK_SIDE_RAD),
        "rangeMapHorizontalOuter": reach(LOOK_SIDE_RAD),
        "rangeMapVerticalUp": reach(LOOK_UP_RAD),
        "rangeMapVerticalDown": reach(LOOK_DOWN_RAD),
    }


def _expressions(names: list[str], node: int, avatar: Avatar) -> dict[str, Any]:
    """Presets, then the categories that are none, the ARKit units, and expressions in words as custom ones."""
    index = {name: k for k, name in enumerate(names)}

    def bound(weights: Mapping[str, float]) -> dict[str, Any]:
        binds = [{"node": node, "index": index[n], "weight": w} for n, w in weights.items() if n in index and w > 0]
        return {"isBinary": False, "morphTargetBinds": binds} if binds else {"isBinary": False}

    def units(weights: Mapping[str, float]) -> dict[str, Any]:
        values = zip(ARKIT_NAMES, arkit_weights(weights).tolist(), strict=True)
        return bound({name: round(value, 4) for name, value in values})

    def category(name: str) -> dict[str, Any]:
        # One that wasn't generated is made of the units.
        return bound({name: 1.0}) if name in avatar.morphs_mm else units(FORMS[name][0].weights)

    preset = {name: category(name) for name in PRESET_CATEGORIES}
    preset |= {name: units(weights) for name, weights in PRESETS.items()}
    custom = {name: category(name) for name in CATEGORIES if name not in PRESET_CATEGORIES}
    custom |= {name: bound({name: 1.0}) for name in names if name not in preset and name not in custom}
    return {"preset": preset, "custom": custom}

"""VRM 1.0: what the schemas of VRMC_vrm demand, the skeleton, expressions, gaze and licence."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_glb import AVATAR, MODEL

from omote.asset.file_settings import VrmMeta
from omote.asset.glb_read import read_avatar
from omote.asset.vrm import EYE_HEIGHT_M, vrm_bytes, write_vrm
from omote.errors import ConfigError
from omote.head.expressions import ARKIT_NAMES
from omote.head.fit import eyeball_centers

ROOT = Path(__file__).resolve().parents[2]
# humanoid.humanBones: the required keys of its schema, and the bone above each in the skeleton.
REQUIRED = {
    "hips": None, "spine": "hips", "head": "spine",
    "leftUpperLeg": "hips", "leftLowerLeg": "leftUpperLeg", "leftFoot": "leftLowerLeg",
    "rightUpperLeg": "hips", "rightLowerLeg": "rightUpperLeg", "rightFoot": "rightLowerLeg",
    "leftUpperArm": "spine", "leftLowerArm": "leftUpperArm", "leftHand": "leftLowerArm",
    "rightUpperArm": "spine", "rightLowerArm": "rightUpperArm", "rightHand": "rightLowerArm",
}  # fmt: skip
PRESETS = {
    "happy", "angry", "sad", "relaxed", "surprised", "neutral", "aa", "ih", "ou", "ee", "oh", "blink", "blinkLeft",
    "blinkRight", "lookUp", "lookDown", "lookLeft", "lookRight",
}  # fmt: skip
# The schema of meta: key → allowed values, or the type.
META: dict[str, Any] = {
    "name": str, "version": str, "authors": list, "copyrightInformation": str, "contactInformation": str,
    "references": list, "thirdPartyLicenses": str, "thumbnailImage": int, "licenseUrl": str, "otherLicenseUrl": str,
    "avatarPermission": {"onlyAuthor", "onlySeparatelyLicensedPerson", "everyone"},
    "allowExcessivelyViolentUsage": bool, "allowExcessivelySexualUsage": bool,
    "commercialUsage": {"personalNonProfit", "personalProfit", "corporation"},
    "allowPoliticalOrReligiousUsage": bool, "allowAntisocialOrHateUsage": bool,
    "creditNotation": {"required", "unnecessary"}, "allowRedistribution": bool,
    "modification": {"prohibited", "allowModification", "allowModificationRedistribution"},
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> bytes:
    return vrm_bytes(AVATAR, MODEL, name="someone")


@pytest.fixture(scope="module")
def root(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<I", data[12:16])
    return json.loads(data[20 : 20 + length])


@pytest.fixture(scope="module")
def vrm(root: dict[str, Any]) -> dict[str, Any]:
    assert "VRMC_vrm" in root["extensionsUsed"]
    return root["extensions"]["VRMC_vrm"]


def places(root: dict[str, Any]) -> dict[int, np.ndarray]:
    """World places of the nodes; none is turned or scaled."""
    out: dict[int, np.ndarray] = {}

    def walk(node: int, start: np.ndarray) -> None:
        entry = root["nodes"][node]
        assert not {"rotation", "scale", "matrix"} & set(entry)
        out[node] = start + entry.get("translation", [0, 0, 0])
        for child in entry.get("children", []):
            walk(child, out[node])

    for node in root["scenes"][0]["nodes"]:
        walk(node, np.zeros(3))
    return out


def test_the_extension_has_what_its_schema_requires(vrm: dict[str, Any]) -> None:
    assert set(vrm) <= {"specVersion", "meta", "humanoid", "firstPerson", "expressions", "lookAt"}
    assert {"specVersion", "meta", "humanoid"} <= set(vrm)
    assert vrm["specVersion"] == "1.0"


def test_meta_follows_the_schema_and_forbids_by_default(vrm: dict[str, Any]) -> None:
    meta = vrm["meta"]
    assert {"name", "authors", "licenseUrl"} <= set(meta) <= set(META)
    for key, value in meta.items():
        allowed = META[key]
        assert value in allowed if isinstance(allowed, set) else isinstance(value, allowed), key
    assert meta["name"] == "someone"
    assert meta["authors"]
    assert meta["licenseUrl"] == "https://vrm.dev/licenses/1.0/"
    assert not any(value for key, value in meta.items() if key.startswith("allow"))
    assert (meta["avatarPermission"], meta["commercialUsage"], meta["modification"], meta["creditNotation"]) == (
        "onlyAuthor", "personalNonProfit", "prohibited", "required",
    )  # fmt: skip
    assert "none recorded" in meta["copyrightInformation"]


def test_metadata_is_written_as_given(tmp_path: Path) -> None:
    said = VrmMeta(
        name="Aki", authors=("A", "B"), users="everyone", consent="Aki, 2026-01-02, research", redistribution=True
    )
    write_vrm(AVATAR, MODEL, tmp_path / "a.vrm", meta=said)
    data = (tmp_path / "a.vrm").read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    meta = json.loads(data[20 : 20 + length])["extensions"]["VRMC_vrm"]["meta"]
    assert (meta["name"], meta["authors"], meta["avatarPermission"]) == ("Aki", ["A", "B"], "everyone")
    assert "Aki, 2026-01-02, research" in meta["copyrightInformation"]
    assert meta["allowRedistribution"]
    with pytest.raises(ConfigError, match="authors"):
        VrmMeta(authors=())


def test_the_skeleton_is_a_standing_human_with_every_required_bone(root: dict[str, Any], vrm: dict[str, Any]) -> None:
    bones = {bone: entry["node"] for bone, entry in vrm["humanoid"]["humanBones"].items()}
    assert set(REQUIRED) <= set(bones)
    assert len(set(bones.values())) == len(bones)
    parent = {child: node for node, entry in enumerate(root["nodes"]) for child in entry.get("children", [])}
    at = places(root)

    def above(node: int) -> list[int]:
        return [node, *above(parent[node])] if node in parent else [node]

    for bone, over in REQUIRED.items():
        if over is not None:
            assert bones[over] in above(bones[bone])[1:], bone
            assert np.linalg.norm(at[bones[bone]] - at[bones[over]]) > 0.02
    height = {bone: at[node][1] for bone, node in bones.items()}
    order = ("leftFoot", "leftLowerLeg", "leftUpperLeg", "hips", "spine", "neck", "head", "leftEye")
    assert all(height[a] < height[b] for a, b in pairwise(order))
    # The person's left is +x; arms are stretched out.
    for side, sign in (("left", 1), ("right", -1)):
        arm = np.array([at[bones[f"{side}{part}"]] for part in ("UpperArm", "LowerArm", "Hand")])
        assert (np.diff(sign * arm[:, 0]) > 0.1).all()
        assert np.ptp(arm[:, 1:], axis=0).max() < 0.01


def test_eyes_turn_about_their_own_bones(root: dict[str, Any], vrm: dict[str, Any], data: bytes) -> None:
    at, bones = places(root), vrm["humanoid"]["humanBones"]
    centers = eyeball_centers(MODEL, MODEL.template_mm) / 1000 + [0, EYE_HEIGHT_M, 0]
    skin = root["skins"][0]
    joints = [skin["joints"].index(bones[bone]["node"]) for bone in ("leftEye", "rightEye")]
    for bone, center in zip(("leftEye", "rightEye"), centers, strict=True):
        np.testing.assert_allclose(at[bones[bone]["node"]], center, atol=1e-5)
    (length,) = struct.unpack("<I", data[12:16])

    def values(accessor: int, dtype: type, width: int) -> np.ndarray:
        entry = root["accessors"][accessor]
        start = 28 + length + root["bufferViews"][entry["bufferView"]]["byteOffset"]
        return np.frombuffer(data, dtype, entry["count"] * width, start).reshape(-1, width)

    for p in root["meshes"][0]["primitives"]:
        name = root["materials"][p["material"]]["name"]
        joint = values(p["attributes"]["JOINTS_0"], np.uint8, 4)
        weight = values(p["attributes"]["WEIGHTS_0"], np.uint8, 4)
        assert (weight.sum(axis=1) == 255).all()
        if name != "eyes":
            assert (joint[:, 0] == skin["joints"].index(bones["head"]["node"])).all()
            continue
        x = values(p["attributes"]["POSITION"], np.float32, 3)[:, 0]
        np.testing.assert_array_equal(joint[:, 0], np.where(x > 0, *joints))
    # At rest, joints times inverse bind matrices are the identity.
    inverse = values(skin["inverseBindMatrices"], np.float32, 16).reshape(-1, 4, 4).transpose(0, 2, 1)
    for node, matrix in zip(skin["joints"], inverse, strict=True):
        np.testing.assert_allclose(matrix[:3, 3], -at[node], atol=1e-6)


def test_expressions_are_presets_and_custom_ones_of_the_targets(root: dict[str, Any], vrm: dict[str, Any]) -> None:
    preset, custom = vrm["expressions"]["preset"], vrm["expressions"]["custom"]
    assert set(preset) == PRESETS
    assert not PRESETS & set(custom)
    assert {"fearful", "disgusted", *ARKIT_NAMES} <= set(custom)
    names = root["meshes"][0]["extras"]["targetNames"]
    bound = {}
    for name, expression in (preset | custom).items():
        assert set(expression) <= {"isBinary", "morphTargetBinds"}
        for bind in expression.get("morphTargetBinds", []):
            assert set(bind) == {"node", "index", "weight"}
            assert root["nodes"][bind["node"]]["mesh"] == 0
            assert 0 < bind["weight"] <= 1
        bound[name] = {names[b["index"]]: b["weight"] for b in expression.get("morphTargetBinds", [])}
    assert bound["neutral"] == {}
    assert all(bound[name] for name in (preset | custom) if name != "neutral")
    assert bound["happy"] == {"happy": 1.0}
    assert bound["blink"] == {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
    assert set(bound["lookLeft"]) == {"eyeLookOutLeft", "eyeLookInRight"}
    assert bound["jawOpen"] == {"jawOpen": 1.0}
    assert "jawOpen" in bound["aa"]


def test_a_category_that_was_not_generated_is_made_of_units() -> None:
    from dataclasses import replace

    few = {name: move for name, move in AVATAR.morphs_mm.items() if name in ARKIT_NAMES}
    data = vrm_bytes(replace(AVATAR, morphs_mm=few), MODEL)
    (length,) = struct.unpack("<I", data[12:16])
    root = json.loads(data[20 : 20 + length])
    names = root["meshes"][0]["extras"]["targetNames"]
    happy = root["extensions"]["VRMC_vrm"]["expressions"]["preset"]["happy"]
    assert {"mouthSmileLeft", "mouthSmileRight"} <= {names[b["index"]] for b in happy["morphTargetBinds"]}


def test_gaze_reaches_as_far_as_the_units_turn_the_eyes(vrm: dict[str, Any]) -> None:
    look = vrm["lookAt"]
    assert look["type"] == "expression"
    for key in ("rangeMapHorizontalInner", "rangeMapHorizontalOuter", "rangeMapVerticalDown", "rangeMapVerticalUp"):
        assert set(look[key]) == {"inputMaxValue", "outputScale"}
        assert 0 <= look[key]["inputMaxValue"] <= 180
    # The pupil of the left eye, turned by its unit.
    eye = MODEL.part_vertices("eye_left")
    center = eyeball_centers(MODEL, MODEL.template_mm)[0]
    pupil = eye[MODEL.template_mm[eye, 2].argmax()]
    turned = MODEL.template_mm[pupil] + MODEL.expression_mm[ARKIT_NAMES.index("eyeLookOutLeft")][pupil]
    before, after = MODEL.template_mm[pupil] - center, turned - center
    angle = np.degrees(np.arctan2(after[0], after[2]) - np.arctan2(before[0], before[2]))
    assert look["rangeMapHorizontalOuter"]["inputMaxValue"] == pytest.approx(angle, abs=3)


def test_the_head_stands_at_eye_height(data: bytes) -> None:
    file = read_avatar(data)
    for p in file.primitives:
        np.testing.assert_allclose(p.positions[:, 1].mean(), EYE_HEIGHT_M, atol=0.1)


def test_three_vrm_shows_it(tmp_path: Path, data: bytes) -> None:
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if shutil.which("node") is None or browser is None or not (ROOT / "scripts/web/node_modules/@pixiv").is_dir():
        pytest.skip("needs node, Chromium, and npm ci in scripts/web")
    (tmp_path / "a.vrm").write_bytes(data)
    run = subprocess.run(
        ["node", str(ROOT / "scripts/screenshot_glb.mjs"), str(tmp_path / "a.vrm"), str(tmp_path / "a.png"),
         "--only", "(rest),happy", "--cell", "64"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "VRM someone by unknown" in run.stdout

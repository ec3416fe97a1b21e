"""Mapping of the datasets' expression labels to the seven categories and to ARKit names.

Labels that are not emotions, such as a jaw moved to the left, get no category. Labels that describe muscle movements get
ARKit names; a weight of 1 marks the unit as active and does not measure its strength. The mapping goes through FACS units
(Ekman & Friesen 1978): FaceScape's "mouth_stretch" is AU 27, a jaw wide open, and not ARKit's mouthStretch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from omote.head.expressions import ARKIT_NAMES, CATEGORIES


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The meaning of an expression label.

    Attributes:
        category: one of the seven categories, or None.
        units: ARKit weights by name; a name without a side stands for both sides. None if the label names no units.
    """

    category: str | None = None
    units: Mapping[str, float] | None = None


def _units(*names: str) -> Meaning:
    return Meaning(units=dict.fromkeys(names, 1.0))


# Yang et al., "FaceScape" (CVPR 2020): the twenty captured expressions, numbered from 1 and based on FACS.
FACESCAPE: Mapping[str, Meaning] = {
    "neutral": Meaning(category="neutral", units={}),
    "smile": Meaning(category="happy", units={"mouthSmile": 1.0}),
    "mouth_stretch": _units("jawOpen"),  # AU 27
    "anger": Meaning(category="angry"),
    "jaw_left": _units("jawLeft"),
    "jaw_right": _units("jawRight"),
    "jaw_forward": _units("jawForward"),
    "mouth_left": _units("mouthLeft"),
    "mouth_right": _units("mouthRight"),
    "dimpler": _units("mouthDimple"),  # AU 14
    "chin_raiser": _units("mouthShrugLower"),  # AU 17
    "lip_puckerer": _units("mouthPucker"),  # AU 18
    "lip_funneler": _units("mouthFunnel"),  # AU 22
    "sadness": Meaning(category="sad"),
    "lip_roll": _units("mouthRollLower", "mouthRollUpper"),  # AU 28
    "grin": Meaning(),  # bared teeth; the dataset does not say whether it is a smile
    "cheek_blowing": _units("cheekPuff"),  # AU 33
    "eye_closed": _units("eyeBlink"),  # AU 43
    "brow_raiser": _units("browInnerUp", "browOuterUp"),  # AU 1+2
    "brow_lower": _units("browDown"),  # AU 4
}
FACESCAPE_LABELS = tuple(FACESCAPE)

# Yin et al., "A 3D facial expression database for facial behavior research" (FG 2006): Ekman's six emotions at four levels.
BU3DFE: Mapping[str, Meaning] = {
    "NE": Meaning(category="neutral", units={}),
    "AN": Meaning(category="angry"),
    "DI": Meaning(category="disgusted"),
    "FE": Meaning(category="fearful"),
    "HA": Meaning(category="happy"),
    "SA": Meaning(category="sad"),
    "SU": Meaning(category="surprised"),
}
BU3DFE_LEVELS = 4

# Ranjan et al., "Generating 3D faces using convolutional mesh autoencoders" (ECCV 2018): twelve extreme, asymmetric
# performances. Only labels that name a unit get ARKit weights; "high smile" is the only emotion.
COMA: Mapping[str, Meaning] = {
    "bareteeth": _units("mouthUpperUp", "mouthLowerDown"),
    "cheeks_in": Meaning(),
    "eyebrow": _units("browInnerUp", "browOuterUp"),
    "high_smile": Meaning(category="happy", units={"mouthSmile": 1.0}),
    "lips_back": _units("mouthStretch"),
    "lips_up": _units("mouthUpperUp"),
    "mouth_down": Meaning(),
    "mouth_extreme": Meaning(),
    "mouth_middle": Meaning(),
    "mouth_open": _units("jawOpen"),
    "mouth_side": Meaning(),  # the dataset does not say to which side
    "mouth_up": Meaning(),
}

# Plain words for the seven categories, for folders and lists that users name themselves.
_WORDS = {
    "neutral": ("neutral", "neutrality", "rest", "relaxed", "none"),
    "happy": ("happy", "happiness", "joy", "joyful", "smile", "smiling"),
    "sad": ("sad", "sadness", "sorrow"),
    "angry": ("angry", "anger", "rage", "furious"),
    "surprised": ("surprised", "surprise"),
    "fearful": ("fearful", "fear", "afraid", "scared"),
    "disgusted": ("disgusted", "disgust"),
}
WORDS: Mapping[str, Meaning] = {
    word: Meaning(category=category, units={} if category == "neutral" else None)
    for category in CATEGORIES
    for word in _WORDS[category]
}


def meaning_of_word(label: str) -> Meaning:
    """The meaning of a label in plain words: "Happy_2" is happy, "flirting" has no category.

    ARKit names such as "jawOpen" are recognised in upper or lower case.
    """
    plain = re.sub(r"[\s_-]*\d+$", "", label.strip())
    for name in arkit_words():
        if plain.lower() == name.lower():
            return _units(name)
    return WORDS.get(plain.lower(), Meaning())


def arkit_words() -> tuple[str, ...]:
    """The 52 ARKit names, then the names of left/right pairs without their side."""
    both = dict.fromkeys(name.removesuffix("Left") for name in ARKIT_NAMES if f"{name[:-4]}Right" in ARKIT_NAMES)
    return (*ARKIT_NAMES, *both)

"""The expression vocabulary: seven categories, their FACS recipes, and the corresponding ARKit-52 weights.

A category is a distribution, not a single shape: it has several recipes, and a draw picks one, scales it by the intensity,
jitters each unit and makes it slightly asymmetric. Sources: Ekman & Friesen, *Facial Action Coding System* (1978), the table
of emotion predictions; EMFACS-7 (1984) for the variants. The ARKit weights are our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from omote.config import nearest
from omote.errors import ConfigError
from omote.types import Expression

CATEGORIES = ("neutral", "happy", "sad", "angry", "surprised", "fearful", "disgusted")

# Apple's ARFaceAnchor.BlendShapeLocation, in the order of its documentation.
ARKIT_NAMES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft",
    "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
ARKIT_INDEX: Mapping[str, int] = {name: i for i, name in enumerate(ARKIT_NAMES)}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to show a category.

    Attributes:
        action_units: FACS action units of the recipe, e.g. "6+12+25".
        weights: ARKit weights at intensity 1; a name without a side stands for both sides.
        share: relative frequency among the category's recipes.
    """

    action_units: str
    weights: Mapping[str, float]
    share: float = 1.0


RECIPES: Mapping[str, tuple[Recipe, ...]] = {
    "neutral": (Recipe(action_units="0", weights={}),),
    "happy": (
        Recipe(action_units="6+12+25", weights={
            "mouthSmile": 1.0, "cheekSquint": 0.6, "eyeSquint": 0.4, "mouthDimple": 0.75, "mouthUpperUp": 0.55,
            "mouthLowerDown": 0.35, "jawOpen": 0.12}, share=1.5),
        Recipe(action_units="6+12+25+26", weights={
            "mouthSmile": 1.0, "cheekSquint": 0.55, "eyeSquint": 0.25, "mouthDimple": 0.75, "mouthStretch": 0.4,
            "mouthUpperUp": 0.35, "mouthLowerDown": 0.55, "jawOpen": 0.3, "browOuterUp": 0.2}),
        Recipe(action_units="6+12", weights={
            "mouthSmile": 1.0, "cheekSquint": 0.5, "eyeSquint": 0.4, "mouthDimple": 0.8, "mouthPress": 0.45,
            "mouthUpperUp": 0.18, "mouthShrugUpper": 0.15, "browOuterUp": 0.15}),
    ),
    "sad": (
        Recipe(action_units="1+4+15+17", weights={
            "browInnerUp": 1.0, "browDown": 0.4, "mouthFrown": 1.0, "mouthShrugLower": 0.67, "mouthShrugUpper": 0.35,
            "mouthRollLower": 0.35, "mouthStretch": 0.35, "mouthPress": 0.1, "mouthPucker": 0.15, "eyeBlink": 0.15,
            "eyeLookDown": 0.25}),
        Recipe(action_units="1+4+7+15", weights={
            "browInnerUp": 0.95, "browDown": 0.65, "mouthFrown": 1.0, "mouthRollLower": 0.5, "mouthStretch": 0.45,
            "cheekSquint": 0.35, "eyeSquint": 0.2, "eyeBlink": 0.1, "eyeLookDown": 0.2}),
        Recipe(action_units="1+4+11+15+17+25", weights={
            "browInnerUp": 1.0, "browDown": 0.4, "mouthFrown": 1.0, "mouthShrugLower": 0.8, "mouthShrugUpper": 0.25,
            "mouthStretch": 0.5, "mouthLowerDown": 0.2, "cheekSquint": 0.25, "eyeSquint": 0.2, "eyeBlink": 0.12,
            "eyeLookDown": 0.25}),
    ),
    "angry": (
        Recipe(action_units="4+5+7+10+15+22+25", weights={
            "browDown": 0.95, "eyeSquint": 0.55, "eyeWide": 0.35, "noseSneer": 0.95, "mouthUpperUp": 0.9,
            "mouthLowerDown": 0.4, "mouthFrown": 0.85, "mouthFunnel": 0.65, "mouthShrugUpper": 0.6, "mouthPress": 0.45,
            "mouthStretch": 0.15, "mouthRollLower": 0.2, "mouthShrugLower": 0.1}, share=2.0),
        Recipe(action_units="4+5+7+10+20+25", weights={
            "browDown": 0.95, "eyeSquint": 0.35, "eyeWide": 0.6, "noseSneer": 0.95, "mouthUpperUp": 0.9,
            "mouthLowerDown": 0.65, "jawOpen": 0.05, "mouthStretch": 0.75, "mouthFrown": 0.95, "mouthFunnel": 0.5,
            "mouthShrugUpper": 0.4, "mouthShrugLower": 0.2, "mouthRollLower": 0.25, "cheekSquint": 0.2}, share=2.0),
        Recipe(action_units="4+5+7+10+20+26", weights={
            "browDown": 1.0, "eyeSquint": 0.3, "eyeWide": 0.8, "noseSneer": 1.0, "mouthUpperUp": 1.0,
            "mouthLowerDown": 0.8, "jawOpen": 0.5, "mouthStretch": 0.65, "mouthFrown": 1.0, "mouthShrugUpper": 0.45,
            "jawForward": 0.4, "cheekSquint": 0.1}, share=0.5),
    ),
    "surprised": (
        Recipe(action_units="1+2+5+26", weights={
            "browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.4}),
        Recipe(action_units="1+2+5+27", weights={
            "browInnerUp": 0.9, "browOuterUp": 1.0, "eyeWide": 0.9, "jawOpen": 0.65, "mouthFunnel": 0.15}),
        Recipe(action_units="1+2+5+26+18", weights={
            "browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.75, "jawOpen": 0.35, "mouthFunnel": 0.4}),
    ),
    "fearful": (
        Recipe(action_units="1+2+4+5+20+25+26", weights={
            "browInnerUp": 0.95, "browDown": 0.65, "browOuterUp": 0.25, "eyeWide": 1.0, "mouthStretch": 1.0,
            "jawOpen": 0.42, "mouthLowerDown": 0.76, "mouthFrown": 0.95, "mouthRollLower": 0.45, "cheekSquint": 0.3,
            "mouthShrugUpper": 0.13}, share=2.0),
        Recipe(action_units="1+4+5+20+25", weights={
            "browInnerUp": 0.85, "browDown": 0.4, "eyeWide": 0.9, "mouthStretch": 1.0, "jawOpen": 0.3,
            "mouthLowerDown": 0.85, "mouthUpperUp": 0.2, "mouthFrown": 0.98, "mouthRollLower": 0.4, "cheekSquint": 0.17,
            "mouthShrugUpper": 0.14}, share=2.0),
        Recipe(action_units="1+2+4+5+10+20+25+26", weights={
            "browInnerUp": 0.72, "browDown": 0.57, "browOuterUp": 0.1, "eyeWide": 0.95, "mouthStretch": 0.95,
            "jawOpen": 0.39, "mouthLowerDown": 0.85, "mouthUpperUp": 0.2, "mouthFrown": 0.9, "mouthRollLower": 0.63,
            "mouthShrugUpper": 0.35, "noseSneer": 0.18, "mouthPress": 0.13, "mouthDimple": 0.1}),
    ),
    "disgusted": (
        Recipe(action_units="4+9+10+15+26", weights={
            "noseSneer": 0.95, "mouthUpperUp": 0.95, "mouthFrown": 0.8, "browDown": 0.5, "cheekSquint": 0.5,
            "eyeSquint": 0.4, "eyeBlink": 0.25, "jawOpen": 0.18, "mouthRollLower": 0.5, "mouthStretch": 0.15,
            "tongueOut": 0.1}, share=2.0),
        Recipe(action_units="4+9+10+15+17", weights={
            "noseSneer": 0.95, "mouthUpperUp": 0.85, "mouthFrown": 0.9, "mouthShrugLower": 0.45, "mouthShrugUpper": 0.2,
            "browDown": 0.25, "cheekSquint": 0.6, "eyeSquint": 0.4, "eyeBlink": 0.25, "jawOpen": 0.18,
            "mouthStretch": 0.1, "mouthPress": 0.2}, share=1.5),
        Recipe(action_units="9+10+17+19+26", weights={
            "noseSneer": 0.95, "mouthUpperUp": 0.7, "mouthFrown": 0.5, "mouthLowerDown": 0.2, "mouthShrugLower": 0.4,
            "browDown": 0.35, "cheekSquint": 0.5, "eyeSquint": 0.5, "eyeBlink": 0.25, "jawOpen": 0.22,
            "mouthRollLower": 0.2, "mouthPucker": 0.15, "tongueOut": 0.25}, share=2.0),
    ),
}  # fmt: skip


# How an avatar shows a category that is requested by name alone; the first form is the default. Vertex motion is limited to
# that of real faces (`omote.lift.travel`), and not every recipe is recognised within that limit. The first forms differ as
# follows: a smile moves up and out, with the upper lip drawn thin over bared teeth; anger opens a square mouth under lowered
# brows; disgust narrows the eyes over a wrinkled nose and a rolled-in lower lip; fear bares closed teeth in a mouth that
# is stretched wide, under brows that are raised and drawn together. Populations and the networks trained on them use
# `RECIPES`.
FORMS: Mapping[str, tuple[Recipe, ...]] = {
    **RECIPES,
    "happy": (
        Recipe(action_units="6+7+10+12+25", weights={
            "mouthSmile": 1.0, "mouthDimple": 0.25, "mouthUpperUp": 0.7, "mouthLowerDown": 0.3, "mouthRollUpper": 0.5,
            "jawOpen": 0.05, "cheekSquint": 0.5, "eyeSquint": 0.65, "noseSneer": 0.1}),
        *RECIPES["happy"],
    ),
    "angry": (
        Recipe(action_units="4+5+6+7+10+20+26+29", weights={
            "browDown": 1.0, "eyeWide": 0.55, "eyeSquint": 1.0, "cheekSquint": 0.65, "noseSneer": 1.0, "mouthUpperUp": 1.0,
            "mouthLowerDown": 1.0, "mouthStretch": 0.4, "mouthFrown": 0.6, "mouthFunnel": 0.15, "mouthRollUpper": 0.1,
            "mouthRollLower": 0.15, "jawForward": 0.9, "jawOpen": 0.38}),
        *RECIPES["angry"],
        Recipe(action_units="4+5+7+17+23+24", weights={
            "browDown": 1.0, "eyeWide": 0.5, "eyeSquint": 0.4, "noseSneer": 0.4, "mouthPress": 0.8,
            "mouthShrugLower": 0.4, "mouthRollUpper": 0.3, "mouthRollLower": 0.3, "mouthFrown": 0.4}),
    ),
    "surprised": (
        Recipe(action_units="1+2+5+26", weights={
            "browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.34}),
        *RECIPES["surprised"],
    ),
    "fearful": (
        Recipe(action_units="1+4+5+7+10+15+20+25", weights={
            "browInnerUp": 0.91, "browDown": 0.65, "eyeWide": 0.98, "eyeSquint": 0.16, "mouthStretch": 0.95,
            "mouthFrown": 0.95, "mouthLowerDown": 1.0, "mouthUpperUp": 0.41, "mouthRollLower": 0.32,
            "cheekSquint": 0.32}),
        *RECIPES["fearful"],
    ),
    "disgusted": (
        Recipe(action_units="4+6+7+9+10+15+26+28", weights={
            "noseSneer": 1.0, "mouthUpperUp": 0.6, "mouthFrown": 0.45, "browDown": 0.6, "cheekSquint": 0.6,
            "eyeSquint": 0.6, "eyeBlink": 0.12, "jawOpen": 0.18, "mouthRollLower": 0.6}),
        *RECIPES["disgusted"],
    ),
}  # fmt: skip


def arkit_weights(weights: Mapping[str, float], *, tilt: float = 0.0) -> Float[np.ndarray, "52"]:
    """A weight vector from names; a name without a side sets both sides, and ``tilt`` in [-1, 1] favours the left (+) side."""
    out = np.zeros(len(ARKIT_NAMES), np.float32)
    for name, value in weights.items():
        if name in ARKIT_INDEX:
            out[ARKIT_INDEX[name]] = value
        elif f"{name}Left" in ARKIT_INDEX:
            out[ARKIT_INDEX[f"{name}Left"]] = value * min(1.0, 1.0 + tilt)
            out[ARKIT_INDEX[f"{name}Right"]] = value * min(1.0, 1.0 - tilt)
        else:
            raise ConfigError(f"unknown ARKit unit {name!r}; expected one of the 52 names, or a name without its side")
    return np.clip(out, 0.0, 1.0)


def check_category(category: str) -> str:
    """Return the category, or raise a `ConfigError` that lists the seven categories."""
    if category not in CATEGORIES:
        raise ConfigError(f"unknown expression {category!r}; expected one of {', '.join(CATEGORIES)}")
    return category


def draw_expression(
    category: str, rng: np.random.Generator, *, intensity: float | None = None, recipe: Recipe | None = None
) -> Expression:
    """Draw an expression of a category: recipe, intensity (.7-1 if not given), unit jitter, asymmetry and resting noise.

    Below an intensity of .7, the expression classifiers read most categories as neutral.
    """
    recipes = RECIPES[check_category(category)]
    if recipe is None:
        share = np.array([r.share for r in recipes])
        recipe = recipes[rng.choice(len(recipes), p=share / share.sum())]
    if intensity is None:
        intensity = 0.0 if category == "neutral" else float(rng.uniform(0.7, 1.0))
    tilt = float(np.clip(rng.normal(0.0, 0.1), -0.3, 0.3))
    jittered = {name: w * intensity * rng.uniform(0.85, 1.15) for name, w in recipe.weights.items()}
    arkit = arkit_weights({k: min(v, 1.0) for k, v in jittered.items()}, tilt=tilt)
    rest = _resting(rng)
    for side in ("Left", "Right"):
        # No resting lid weight on a widened eye, or on a narrowed or lowered one, which it would close.
        moved = sum(arkit[ARKIT_INDEX[f"{unit}{side}"]] for unit in ("eyeWide", "eyeSquint", "eyeBlink", "eyeLookDown"))
        rest[ARKIT_INDEX[f"eyeBlink{side}"]] *= 1 - min(1.0, 2 * moved)
    return Expression(category=category, intensity=intensity, arkit=np.clip(arkit + rest, 0.0, 1.0))


def _resting(rng: np.random.Generator) -> Float[np.ndarray, "52"]:
    """Draw small resting weights of lids, lips and gaze, independent of the category; real faces are never exactly neutral."""
    gaze = rng.normal(0.0, [0.07, 0.04])
    rest = {
        "eyeLookOutLeft": max(gaze[0], 0.0), "eyeLookInRight": max(gaze[0], 0.0),
        "eyeLookInLeft": max(-gaze[0], 0.0), "eyeLookOutRight": max(-gaze[0], 0.0),
        "eyeLookUp": max(gaze[1], 0.0), "eyeLookDown": max(-gaze[1], 0.0),
        "eyeBlink": rng.uniform(0.14, 0.28), "mouthPress": rng.uniform(0.0, 0.1), "browInnerUp": rng.uniform(0.0, 0.03),
    }  # fmt: skip
    return arkit_weights(rest)


def typical_expression(category: str, intensity: float = 1.0, *, recipe: int = 0) -> Expression:
    """A category's recipe at an intensity, without randomness; recipe numbers wrap around."""
    recipes = RECIPES[check_category(category)]
    return Expression(
        category=category,
        intensity=intensity,
        arkit=arkit_weights({k: v * intensity for k, v in recipes[recipe % len(recipes)].weights.items()}),
    )


def with_weights(expression: Expression, form: int) -> Expression:
    """The expression with ARKit weights; if it has none, they come from its category's form with that number.

    An editor also accepts a category alone and then chooses the appearance itself; weights control it more accurately.
    Form numbers wrap around.
    """
    if expression.arkit is not None:
        return expression
    forms = FORMS[check_category(expression.category)]
    weights = forms[form % len(forms)].weights
    return replace(expression, arkit=arkit_weights({k: v * expression.intensity for k, v in weights.items()}))


def expressions_of(wanted: Sequence[str | Expression], intensity: float = 1.0) -> tuple[Expression, ...]:
    """Convert names (``"happy"``, ``"happy,sad"``, ``"all"``) to expressions.

    Raises:
        ConfigError: a name is unknown or repeated, no name is given, or the intensity is outside [0, 1].
    """
    if not 0 <= intensity <= 1:
        raise ConfigError(f"intensity: expected 0 to 1, got {intensity}")
    out: dict[str, Expression] = {}
    for item in wanted:
        if isinstance(item, Expression):
            given = [item]
        else:
            names = [name.strip().lower() for name in item.split(",") if name.strip()]
            names = [c for name in names for c in (CATEGORIES if name == "all" else (name,))]
            given = [Expression(category=name, intensity=intensity) for name in names]
        for expression in given:
            category, name = expression.category, expression.name
            if category not in CATEGORIES:
                raise ConfigError(f"expressions: unknown {category!r}{nearest(category, [*CATEGORIES, 'all'])}")
            if name in out:
                raise ConfigError(f"expressions: {name!r} is given twice; give it once")
            out[name] = expression
    if not out:
        raise ConfigError("expressions: expected at least one, got none; leave the option out for all")
    return tuple(out.values())

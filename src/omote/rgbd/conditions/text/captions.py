"""Generated captions of expressions, English and Japanese: training data of the text conditioner.

A caption is a frame ("a portrait of a {person} who looks {how}") filled with one wording of a category, one wording of an
intensity, and a person. Frames and wordings come in two sets, `train` and `test`; a `test` caption has a held-out frame, and a
share of `NEW_WORDS` of them also has held-out words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from omote.head.expressions import CATEGORIES, check_category
from omote.rgbd.conditions.text.words import LANGUAGES, WORDS, Language, Split

NEW_WORDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A text with its category and intensity.

    Attributes:
        text: text of the caption.
        language: language of the text.
        category: category of the expression, one of `omote.head.expressions.CATEGORIES`.
        intensity: intensity in [0, 1]; 0 for neutral.
    """

    text: str
    language: Language
    category: str
    intensity: float


# Intensity of captions without an adverb: clear, not extreme.
PLAIN_INTENSITY = 0.85
_ADVERBS: Mapping[Language, Mapping[Split, Mapping[float, tuple[str, ...]]]] = {
    "en": {
        "train": {
            0.4: ("slightly", "a little", "a bit", "mildly", "faintly"),
            0.65: ("somewhat", "moderately", "fairly", "rather"),
            1.0: ("very", "extremely", "really", "intensely", "absolutely", "so"),
        },
        "test": {
            0.4: ("ever so slightly", "just a touch"),
            0.65: ("quite", "reasonably"),
            1.0: ("utterly", "incredibly"),
        },
    },
    "ja": {
        "train": {
            0.4: ("少し", "ちょっと", "わずかに", "かすかに"),
            0.65: ("やや", "そこそこ", "ある程度"),
            1.0: ("とても", "すごく", "非常に", "本当に", "めちゃくちゃ"),
        },
        "test": {0.4: ("ほんの少し", "ちょっとだけ"), 0.65: ("まあまあ", "それなりに"), 1.0: ("ものすごく", "極めて")},
    },
}

_PERSONS: Mapping[Language, tuple[str, ...]] = {
    "en": ("person", "man", "woman", "young man", "old woman", "girl", "boy", "bearded man", "face", "character"),
    "ja": ("人", "男性", "女性", "若い男性", "年配の女性", "少女", "少年", "ひげの男性", "キャラクター"),
}

# The adverb is part of {how} and {what}.
_FRAMES: Mapping[Language, Mapping[Split, tuple[str, ...]]] = {
    "en": {
        "train": (
            "{how}", "{what}", "a {how} {person}", "a {person} who looks {how}", "the {person} is {how}",
            "a face showing {what}", "make this {person} look {how}", "a portrait of a {how} {person}", "looks {how}",
            "a {person} with {what}", "an expression of {what}", "a {person} feeling {how}", "close-up photo, {how}",
            "3D avatar of a {how} {person}", "please show {what}", "the {person} shows {what}", "{how} expression",
            "turn the face into something {how}", "someone {how}", "{person}, {how}", "the expression is {how}",
            "a head model looking {how}", "a photo where the {person} expresses {what}", "he is {how}", "she seems {how}",
            "with {what} on the face", "emotion: {what}", "let the avatar look {how}", "I feel {how}", "they look {how}",
            "an image full of {what}", "{how}, head and shoulders", "now the {person} gets {how}", "{what}, studio light",
        ),
        "test": (
            "I want the {person} to appear {how}", "render the head so that it expresses {what}",
            "picture of somebody {how}", "give the {person} {what}", "could you make the {person} seem {how}?",
            "a scan of a {person}, now {how}", "this {person} has {what} written all over the face",
        ),
    },
    "ja": {
        "train": (
            "{how}顔", "{what}", "{how}{person}", "{how}{person}の顔", "{what}の表情", "{how}表情", "{person}が{how}様子",
            "{how}{person}の写真", "{what}を表す顔", "{how}顔にしてください", "{what}を見せる{person}",
            "{how}アバター", "この{person}を{how}顔に", "{how}顔の3Dモデル", "{how}雰囲気の{person}", "もっと{how}顔",
            "{person}の{how}顔を描いて", "{person}を{how}表情で", "{what}をこめた表情で", "{what}でいっぱいの{person}",
            "{how}ときの{person}", "{person}の表情は{what}", "カメラの前で{how}{person}", "頭部モデルを{how}様子に",
            "顔に{what}が見える", "{how}{person}がいる", "{person}は{what}を感じている", "{how}顔を見せて",
        ),
        "test": (
            "{person}は{how}ようだ", "{how}感じの{person}を作って", "{what}が顔に出ている{person}",
            "3Dの顔を{how}表情に変えて", "{person}の顔に{what}を浮かべて",
        ),
    },
}  # fmt: skip


def draw_caption(
    rng: np.random.Generator, *, language: Language | None = None, category: str | None = None, split: Split = "train"
) -> Caption:
    """Draw a caption.

    Args:
        rng: random generator.
        language: language of the caption; random if None.
        category: category of the caption; random if None.
        split: "test" for a held-out frame, with held-out words in half of the captions.
    """
    language = LANGUAGES[rng.integers(len(LANGUAGES))] if language is None else language
    category = CATEGORIES[rng.integers(len(CATEGORIES))] if category is None else check_category(category)
    wording: Split = "test" if split == "test" and rng.random() < NEW_WORDS else "train"
    words = WORDS[language][wording][category]
    frame = _pick(rng, _FRAMES[language][split])
    intensity, adverb = (0.0 if category == "neutral" else PLAIN_INTENSITY), ""
    # Neutral has no degree; and "a slightly smile" is not English, so only "how" takes an adverb.
    takes_adverb = "{how}" in frame and category != "neutral"
    if takes_adverb and rng.random() < 0.6:
        adverbs = _ADVERBS[language][split]
        intensity = float(rng.choice(list(adverbs)))
        adverb = _pick(rng, adverbs[intensity]) + (" " if language == "en" else "")
    text = frame.format(
        how=adverb + _pick(rng, words.how), what=_pick(rng, words.what), person=_pick(rng, _PERSONS[language])
    )
    if language == "en":
        text = _dressed(text, rng)
    elif rng.random() < 0.3:
        text += "。"
    return Caption(text=text, language=language, category=category, intensity=intensity)


def _pick(rng: np.random.Generator, of: Sequence[str]) -> str:
    return of[int(rng.integers(len(of)))]


def _dressed(text: str, rng: np.random.Generator) -> str:
    """English text as people type it: with the right article, and sometimes a capital or a full stop."""
    words = text.split(" ")
    for i, word in enumerate(words[:-1]):
        if word.lower() == "a" and words[i + 1][:1] in "aeiou":
            words[i] = word + "n"
    text = " ".join(words)
    draw = rng.random()
    if draw < 0.25:
        text = text[0].upper() + text[1:]
    if draw < 0.12 and not text.endswith("?"):
        text += "."
    return text

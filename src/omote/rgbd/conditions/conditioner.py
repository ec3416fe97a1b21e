"""τ_θ: a condition → tokens and channels for the denoiser (Rombach et al., CVPR 2022, §3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.head.expressions import ARKIT_NAMES
from omote.rgbd.conditions.arkit import NUM_TOKENS, Arkit
from omote.rgbd.conditions.base import READ_SIZE, Condition, Kind, NumbersReader, Reader, kind_named
from omote.rgbd.conditions.category import Category, CategoryReader
from omote.rgbd.conditions.motion import Motion, MotionReader

# Parameters with other names in files, which keep the names of the first release.
FILE_NAMES = {
    "readers.category.null": "no_category",
    "readers.category.category.": "category.",
    "readers.category.intensity.": "intensity.",
    "readers.arkit.null": "no_arkit",
    "readers.arkit.mlp.": "arkit.",
}


class Conditioner(nn.Module):
    """The readers of all kinds of condition that a denoiser supports.

    Every conditioner reads the category, ARKit weights and their motion images; the tokens of the first two also form the
    pooled vector.

    Args:
        width: width of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.readers = nn.ModuleDict()
        self.add(Category, CategoryReader(width))
        self.add(Arkit, NumbersReader(width, len(ARKIT_NAMES), num_tokens=NUM_TOKENS))
        self.add(Motion, MotionReader(width))
        num_pooled = self.reader(Category).num_tokens + self.reader(Arkit).num_tokens
        self.pool = nn.Sequential(nn.Linear(num_pooled * width, width), nn.SiLU(), nn.Linear(width, width))
        self.register_state_dict_post_hook(_to_file_names)
        self.register_load_state_dict_pre_hook(_from_file_names)

    def add(self, kind: type[Kind], reader: Reader) -> None:
        """Add the reader of a further kind."""
        self.readers[kind.name] = reader

    def reader(self, kind: type[Kind]) -> Reader:
        """The reader of a kind."""
        return cast(Reader, self.readers[kind.name])

    @property
    def kinds(self) -> tuple[type[Kind], ...]:
        """The supported kinds."""
        return tuple(kind_named(name) for name in self.readers)

    def forward(
        self, condition: Condition
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b w"], Float[Tensor, "b c r r"]]:
        """→ (tokens for cross-attention, pooled vector for the time embedding, channels for the denoiser's input)."""
        tokens: dict[type[Kind] | None, Tensor] = {}
        channels = []
        for kind in self.kinds:
            reader, value = self.reader(kind), condition.find(kind)
            if reader.num_tokens:
                null = reader.null.expand(condition.size, reader.num_tokens, -1)
                tokens[kind] = null
                if value is not None:
                    tokens[kind] = torch.where(value.given[:, None, None], reader.tokens(value), null)
            if reader.num_channels:
                none = tokens[Category].new_zeros(condition.size, reader.num_channels, READ_SIZE, READ_SIZE)
                channels.append(none if value is None else reader.channels(value) * value.given.view(-1, 1, 1, 1))
        for value in condition.values():
            if value.part_of in tokens:
                tokens[value.part_of] = value.substituted(tokens[value.part_of])
        pooled = self.pool(torch.cat([tokens[Category], tokens[Arkit]], dim=1).flatten(1))
        return torch.cat(list(tokens.values()), dim=1), pooled, torch.cat(channels, dim=1)


def _to_file_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    _rename(state, prefix, FILE_NAMES)


def _from_file_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    _rename(state, prefix, {file_name: name for name, file_name in FILE_NAMES.items()})


def _rename(state: dict[str, Any], prefix: str, names: Mapping[str, str]) -> None:
    for key in list(state):
        for old, new in names.items():
            if key.startswith(prefix + old):
                state[prefix + new + key.removeprefix(prefix + old)] = state.pop(key)
                break

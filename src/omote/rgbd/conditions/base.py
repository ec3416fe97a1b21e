"""Base classes of the kinds of condition, and `Condition`: a mapping from kinds to their values for a batch.

A kind of condition is one file with two classes. Its `Kind` holds the values for a batch, and defines how they are built and how
often training drops them. Its `Reader` turns them into tokens for cross-attention (Rombach et al., CVPR 2022, §3.3), into
channels concatenated to the denoiser's input (§4.3.2), or both. Each reader has a learned null token, so that kinds can be given
alone, together, or not at all (classifier-free guidance, Ho & Salimans 2022).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.config import nearest
from omote.datasets.pairs import PairBatch
from omote.errors import ConfigError
from omote.head.rest_face import RestFace
from omote.types import Expression

K = TypeVar("K", bound="Kind")
# Side, in pixels, of the images that are concatenated to the denoiser's input.
READ_SIZE = 64

_KINDS: dict[str, type[Kind]] = {}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Base class of the kinds of condition, with the values of one kind for the items of a batch.

    A subclass is a frozen dataclass that adds tensors with one row per item, and sets the class attributes below.

    Attributes:
        name: name in configs and files; required.
        dropout: default share of training items from which this kind is dropped.
        group: name of a group of which training drops at most one kind, unless it drops the whole condition; None for
            independent dropout.
        part_of: kind that this one is always dropped with, because it carries the same information.
        num_numbers: length of `numbers`, for a kind that is read by a `NumbersReader`.
        given: True for items with a value; the rows of other items are ignored.
    """

    name: ClassVar[str]
    dropout: ClassVar[float] = 0.0
    group: ClassVar[str | None] = None
    part_of: ClassVar[type[Kind] | None] = None
    num_numbers: ClassVar[int] = 0

    given: Bool[Tensor, "b"]

    def __init_subclass__(cls) -> None:
        _KINDS[cls.name] = cls

    @classmethod
    def of(cls: type[K], expressions: Sequence[Expression], face: RestFace | None) -> K | None:
        """Values of wanted expressions of one face; None if there are none.

        Args:
            expressions: expression of each item.
            face: face of the person in the source image, if known.
        """
        return None

    @classmethod
    def of_pairs(cls: type[K], pairs: PairBatch, target: Float[Tensor, "b 5 s s"]) -> K | None:
        """Values of training targets; None if there are none.

        Args:
            pairs: pairs of sources and targets.
            target: packed target images (`omote.rgbd.codec`).
        """
        return None

    @classmethod
    def reader(cls, width: int) -> Reader:
        """A new module that reads this kind, for editors that have its name in ``kinds``.

        Args:
            width: width of a token.
        """
        if not cls.num_numbers:
            raise NotImplementedError(f"{cls.__name__} has no reader of its own")
        return NumbersReader(width, cls.num_numbers)

    def numbers(self) -> Float[Tensor, "b n"]:
        """All values of an item as one row of numbers."""
        return torch.cat([x.reshape(len(x), -1) for name, x in self.rows().items() if name != "given"], dim=1)

    def substituted(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Tokens of the kind that this one is ``part_of``, replaced by its own where given; unchanged by default."""
        return tokens

    def compact(self: K, latent_size: int) -> K:
        """The values as the cache of edits stores them: images at the size that readers use, in half precision.

        Args:
            latent_size: side of the source latents in latent pixels.
        """
        return self

    def rows(self) -> dict[str, Tensor]:
        """The tensors by name, one row per item."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def kind_named(name: str) -> type[Kind]:
    """The kind of condition with that name.

    Raises:
        ConfigError: no kind of that name has been defined.
    """
    if name not in _KINDS:
        raise ConfigError(f"unknown kind of condition {name!r}{nearest(name, _KINDS)}")
    return _KINDS[name]


@dataclass(frozen=True, eq=False)
class Condition(Mapping[type[Kind], Kind]):
    """The values of a batch by kind of condition; an absent kind is given for no item.

    Attributes:
        entries: value of each kind.
        size: number of items.
    """

    entries: tuple[Kind, ...]
    size: int

    def __getitem__(self, kind: type[K]) -> K:
        value = self.find(kind)
        if value is None:
            raise KeyError(kind)
        return value

    def __iter__(self) -> Iterator[type[Kind]]:
        return (type(value) for value in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, kind: type[K]) -> K | None:
        """The value of a kind, or None."""
        return next((value for value in self.entries if type(value) is kind), None)

    def including(self, *values: Kind | None) -> Condition:
        """A condition with values added or replaced; None stands for no value."""
        new = {type(value): value for value in values if value is not None}
        return replace(self, entries=tuple({**dict(self), **new}.values()))

    def without(self, kinds: Collection[type[Kind]]) -> Condition:
        """A condition without some kinds and the kinds that are part of them."""
        return replace(self, entries=tuple(v for v in self.entries if (v.part_of or type(v)) not in kinds))

    def unconditional(self) -> Condition:
        """The unconditional condition of the same number of items."""
        return replace(self, entries=())

    def masked(self, dropped: Mapping[type[Kind], Bool[Tensor, "b"]]) -> Condition:
        """A condition with kinds, and the kinds that are part of them, dropped from the items where their masks are True."""
        masks = [dropped.get(v.part_of or type(v)) for v in self.entries]
        entries = (v if m is None else replace(v, given=v.given & ~m) for v, m in zip(self.entries, masks, strict=True))
        return replace(self, entries=tuple(entries))

    def to(self, device: torch.device | str) -> Condition:
        """A copy on another device."""
        entries = (replace(v, **{name: rows.to(device) for name, rows in v.rows().items()}) for v in self.entries)
        return replace(self, entries=tuple(entries))


def dropout_columns(kinds: Collection[type[Kind]]) -> list[list[type[Kind]]]:
    """Kinds grouped by the uniform draw that decides on their dropout; the kinds of a group share one draw."""
    columns: dict[str, list[type[Kind]]] = {}
    for kind in kinds:
        columns.setdefault(kind.group or kind.name, []).append(kind)
    return list(columns.values())


def drop(
    condition: Condition, draws: Float[Tensor, "b n"], shares: Mapping[type[Kind], float], *, everything: float
) -> Condition:
    """Condition dropout for guidance: drop each kind from a share of the items, and all kinds from a further share.

    Args:
        condition: condition before dropout.
        draws: uniform draws in [0, 1), with a column per element of `dropout_columns`.
        shares: share of items from which each kind is dropped.
        everything: share of items from which all kinds are dropped.
    """
    masks: dict[type[Kind], Tensor] = {}
    nothing = torch.zeros(len(draws), dtype=torch.bool)
    for number, (draw, kinds) in enumerate(zip(draws.unbind(dim=1), dropout_columns(shares), strict=True)):
        low = 0.0
        for kind in kinds:
            masks[kind] = (draw >= low) & (draw < low + shares[kind])
            low += shares[kind]
            if number == 0 and kind is kinds[0]:
                nothing = (draw >= low) & (draw < low + everything)
                low += everything
    return condition.masked({kind: mask | nothing for kind, mask in masks.items()})


class Reader(nn.Module):
    """Base class of readers, which encode one kind for a denoiser. A subclass defines `tokens`, `channels`, or both.

    Args:
        width: width of a token.
        num_tokens: number of tokens for cross-attention.
        num_channels: number of channels concatenated to the denoiser's input.
    """

    null: nn.Parameter

    def __init__(self, width: int, *, num_tokens: int = 1, num_channels: int = 0) -> None:
        super().__init__()
        self.num_tokens, self.num_channels = num_tokens, num_channels
        if num_tokens:
            self.null = nn.Parameter(torch.zeros((num_tokens, width) if num_tokens > 1 else width))

    def tokens(self, value: Any) -> Float[Tensor, "b n w"]:
        """Tokens of a value; those of items without a value are ignored."""
        raise NotImplementedError

    def channels(self, value: Any) -> Float[Tensor, "b c r r"]:
        """Channels of a value, with a side of `READ_SIZE` pixels; those of items without a value are ignored."""
        raise NotImplementedError


class NumbersReader(Reader):
    """A reader of `Kind.numbers`: an MLP with one hidden layer.

    Args:
        width: width of a token.
        num_numbers: number of numbers per item.
        num_tokens: number of tokens for cross-attention.
    """

    def __init__(self, width: int, num_numbers: int, *, num_tokens: int = 1) -> None:
        super().__init__(width, num_tokens=num_tokens)
        self.mlp = nn.Sequential(nn.Linear(num_numbers, 2 * width), nn.SiLU(), nn.Linear(2 * width, num_tokens * width))

    def tokens(self, value: Kind) -> Float[Tensor, "b n w"]:
        """The tokens of every item's numbers."""
        out: Tensor = self.mlp(value.numbers().to(self.null.dtype)).unflatten(1, (self.num_tokens, -1))
        return out

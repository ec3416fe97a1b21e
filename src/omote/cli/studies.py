"""The command lines of `omote evaluate` and `omote study`: a subcommand per config, its options from the config's fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union

import tyro

from omote.config import nearest
from omote.errors import ConfigError

if TYPE_CHECKING:
    from omote.studies.base import Study

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Generic[Config]):
    """A suite or study and its folder.

    Attributes:
        config: of the suite or study.
        out: folder of the results; made if missing.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyOptions(Options[Config]):
    """Of a study that has a trial.

    Attributes:
        tiny: a trial of seconds, which means nothing: options that are not given take small values.
    """

    tiny: bool = False


def subcommands(command: str, kinds: Sequence[type[Study]], arguments: Sequence[str]) -> Any:
    """The union that tyro makes subcommands of.

    Raises:
        ConfigError: the arguments begin with another name.
    """
    names = [kind.NAME for kind in kinds]
    if arguments and not arguments[0].startswith("-") and arguments[0] not in names:
        raise ConfigError(f"{arguments[0]}: unknown {command}{nearest(arguments[0], names)}")
    return Union[  # noqa: UP007 (of a tuple that is made here)
        tuple(
            Annotated[
                (TinyOptions if kind.TINY else Options)[kind],
                tyro.conf.subcommand(kind.NAME, description=(kind.__doc__ or "").partition("\n\n")[0]),
            ]
            for kind in kinds
        )
    ]


def run(options: Options[Any]) -> None:
    """Measure, and print where the numbers are."""
    from omote import api
    from omote.cli.display import Display

    config: Study = options.config
    if isinstance(options, TinyOptions) and options.tiny:
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        small = {key: value for key, value in config.TINY.items() if getattr(config, key) == defaults[key]}
        config = dataclasses.replace(config, **small)
    with Display() as display:
        numbers = api.evaluate(config, out=options.out, on_step=display)
    if summary := config.summary(numbers):
        print(summary)
    print(f"{options.out / 'metrics.json'}: {len(numbers)} numbers")

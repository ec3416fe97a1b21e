"""The command lines of `omote evaluate` and `omote study`: a subcommand per config, with its fields as options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union, cast

import tyro

from omote.config import nearest
from omote.errors import ConfigError

if TYPE_CHECKING:
    from omote.studies.base import Study

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Generic[Config]):
    """A suite or study and its result folder.

    Attributes:
        config: suite or study with its options.
        out: folder of the results; made if missing.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]

    def study(self) -> Study:
        """The suite or study with its options."""
        return cast("Study", self.config)

    def __call__(self) -> None:
        from omote import api
        from omote.cli.display import Display

        study = self.study()
        with Display() as display:
            numbers = api.evaluate(study, out=self.out, on_step=display)
        if summary := study.summary(numbers):
            print(summary)
        print(f"{self.out / 'metrics.json'}: {len(numbers)} numbers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyOptions(Options[Config]):
    """Options of a study with a trial.

    Attributes:
        tiny: run a trial of seconds, whose results mean nothing: options that are not given take small values.
    """

    tiny: bool = False

    def study(self) -> Study:
        """The study, with small values for options that are not given."""
        study = super().study()
        if not self.tiny:
            return study
        defaults = {field.name: field.default for field in dataclasses.fields(study)}
        small = {key: value for key, value in study.TINY.items() if getattr(study, key) == defaults[key]}
        return dataclasses.replace(study, **small)


def subcommands(command: str, kinds: Sequence[type[Study]], arguments: Sequence[str]) -> Any:
    """The union from which tyro makes subcommands.

    Raises:
        ConfigError: the first argument is an unknown name.
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

"""Progress as values: long work is a generator of steps that returns its result; the caller decides what to show."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

Result = TypeVar("Result")
NOTE = "note"  # stage of a step without work, whose note stays on the screen


@dataclass(frozen=True, kw_only=True)
class Step:
    """Work that is about to begin.

    Attributes:
        stage: short name of the stage, as in a report's ``time_s/<stage>``.
        done: number of finished parts of the stage.
        total: number of parts in the stage; 0 if unknown.
        note: one line of text, such as a loss or a finding.
        ready: what earlier stages have made and can be shown: the ``scan`` (`omote.types.Scan`) as it was read, the
            ``source`` and the generated images by expression (`omote.types.Rgbd`).
    """

    stage: str
    done: int = 0
    total: int = 0
    note: str = ""
    ready: Mapping[str, object] = field(default_factory=dict)


# Work that yields its progress and returns a result.
Steps: TypeAlias = Generator[Step, None, Result]


def finish(work: Steps[Result], on_step: Callable[[Step], None] | None = None) -> Result:
    """Run a generator of steps to its end and return its result.

    Args:
        work: generator that yields steps and returns a result.
        on_step: function called with each step; None shows nothing.
    """
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        if on_step is not None:
            on_step(step)

"""Steps drawn as progress bars on standard error if it is a terminal, and as a line now and then if it is a file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from omote.progress import NOTE, Step

# Interval of the lines in a file, such as the log of a job.
LOG_S = 60.0
# Period over which speed is estimated: parts may take minutes.
SPEED_S = 3600.0
# Shares of a run's time by stage, in its order, as reports give them (`time_s/...`); only their ratios matter.
AVATAR_STAGES = {
    "capture": 0.3, "read": 0.1, "load": 1.0, "align": 2.0, "source": 0.3, "edit": 0.6, "lift": 1.2, "texture": 0.7, "write": 0.5,
}  # fmt: skip
SHEET_STAGE = {"sheet": 0.9}
SCAN_STAGES = {"read": 0.2, "align": 2.0, "render": 0.3, "load": 2.0, "autoencode": 0.3}


class Display:
    """A context in which ``display(step)`` shows a step: one line per stage, which stays when the stage is done.

    Args:
        console: where it is shown; standard error if None.
        stages: expected time of each stage, in any unit, for work whose stages have no parts to count.
    """

    def __init__(self, console: Console | None = None, *, stages: Mapping[str, float] | None = None) -> None:
        console = Console(stderr=True) if console is None else console
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _TimeLeft(self),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=SPEED_S,
        )
        self._stages = dict(stages or {})
        self._stage = ""
        self._task: TaskID | None = None
        self._start = self._stage_start = self._said = time.monotonic()
        self._first = 0
        self.end: float | None = None  # expected, on the monotonic clock

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def __call__(self, step: Step) -> None:
        """Show the step that is about to begin; a note gets a line of its own, even without a terminal."""
        if step.stage == NOTE:
            self._progress.console.print(f"note: {step.note}", markup=False, highlight=False, soft_wrap=True)
            return
        if step.stage != self._stage or self._task is None:
            self._finish()
            self._stage, self._stage_start, self._first = step.stage, time.monotonic(), step.done
            self._task = self._progress.add_task(step.stage, total=step.total or None, note="")
        self._expect(step)
        self._progress.update(self._task, completed=step.done, total=step.total or None, note=step.note)
        if not self._progress.console.is_terminal and time.monotonic() - self._said >= LOG_S:
            self._log(step)

    def say(self, text: str, *, error: bool = True) -> None:
        """Print a line above the progress: to standard error like all progress, or to standard output as a result."""
        if not error and not self._progress.console.is_terminal:
            print(text, flush=True)
            return
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _expect(self, step: Step) -> None:
        """Estimate when all stages will be done, from the time that the earlier ones took."""
        names = list(self._stages)
        if step.stage not in names:
            return
        share = step.done / step.total if step.total else 0.0
        passed = sum(self._stages[name] for name in names[: names.index(step.stage)]) + share * self._stages[step.stage]
        now = time.monotonic()
        if passed > 0:
            self.end = now + (sum(self._stages.values()) - passed) / passed * (now - self._start)

    def _log(self, step: Step) -> None:
        self._said = now = time.monotonic()
        parts = [f"{step.stage}: {step.done:,} of {step.total:,}" if step.total else step.stage]
        parts.append(f"{_duration(now - self._start)} gone")
        if step.total and step.done > self._first:
            seconds = (now - self._stage_start) / (step.done - self._first)
            parts.append(f"{_duration(seconds * (step.total - step.done))} left")
        line = ", ".join(parts) + (f"; {step.note}" if step.note else "")
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _finish(self) -> None:
        if self._task is not None:
            total = self._progress.tasks[-1].total or 1
            self._progress.update(self._task, completed=total, total=total)


class _TimeLeft(ProgressColumn):
    """Time left for a stage by its parts, or for all stages."""

    max_refresh = 0.5

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def render(self, task: Task) -> Text:
        """The time in hours, minutes and seconds."""
        if task.finished:
            return Text("")
        end = self._display.end
        if end is not None:
            return Text(f"{_duration(max(0.0, end - time.monotonic()))} left in all", style="progress.remaining")
        left = task.time_remaining if task.total else None
        return Text("-:--:--" if left is None else _duration(left), style="progress.remaining")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

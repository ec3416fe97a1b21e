"""Steps drawn as progress bars on standard error, if it is a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from omote.progress import NOTE, Step


class Display:
    """A context in which ``display(step)`` shows a step: one line per stage, which stays when the stage is done."""

    def __init__(self, console: Console | None = None) -> None:
        console = Console(stderr=True) if console is None else console
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._stage = ""
        self._task: TaskID | None = None

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
            self._stage = step.stage
            self._task = self._progress.add_task(step.stage, total=step.total or None, note="")
        self._progress.update(self._task, completed=step.done, total=step.total or None, note=step.note)

    def say(self, text: str, *, error: bool = True) -> None:
        """Print a line above the progress: to standard error like all progress, or to standard output as a result."""
        if not error and not self._progress.console.is_terminal:
            print(text, flush=True)
            return
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _finish(self) -> None:
        if self._task is not None:
            total = self._progress.tasks[-1].total or 1
            self._progress.update(self._task, completed=total, total=total)

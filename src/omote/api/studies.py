"""``omote.evaluate`` and ``omote.study``: run a suite or study from its typed config, into a folder that can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omote.progress import Step, finish

if TYPE_CHECKING:
    from omote.studies.base import Study


def evaluate(study: Study, *, out: Path | str, on_step: Callable[[Step], None] | None = None) -> dict[str, float | int]:
    """Run a suite or a study into a folder: ``omote.evaluate(ReleaseSuite(persons=20), out="results")``.

    ``omote.study`` is the same function.

    Args:
        study: suite or study with its options (docs/evaluation.md, docs/studies.md).
        out: result folder, made if missing; existing items are kept, and any number of processes may measure into it.
        on_step: function called with each step.

    Returns:
        The content of ``out/metrics.json``: flat keys ``<metric>/<row>``.

    Raises:
        ConfigError: a value is out of range, or cannot be measured.
        CheckpointError: missing or damaged weights.
        JudgeError: the judges are not installed.
        OutputError: ``out`` cannot be written, or contains results of other settings or weights.
    """
    from omote.studies.base import run_study

    return finish(run_study(study, Path(out)), on_step)


study = evaluate

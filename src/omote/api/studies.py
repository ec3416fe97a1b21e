"""``omote.evaluate`` and ``omote.study``: a suite or study of a typed config, into a folder that can be resumed."""

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
        out: folder, made if missing; items that it holds already are not measured again, and any number of processes may
            measure into it.
        on_step: called with progress.

    Returns:
        What ``out/metrics.json`` holds: flat keys ``<metric>/<row>``.

    Raises:
        ConfigError: a value out of range, or one that cannot be measured.
        CheckpointError: missing or damaged weights.
        JudgeError: the judges are not installed.
        OutputError: ``out`` cannot be written, or holds results of other settings or weights.
    """
    from omote.studies.base import run_study

    return finish(run_study(study, Path(out)), on_step)


study = evaluate

"""``omote.evaluate`` and ``omote.study``: a suite or study of a typed config, into a folder that can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omote.progress import Step, finish

if TYPE_CHECKING:
    from omote.studies.base import Study


def evaluate(suite: Study, *, out: Path | str, on_step: Callable[[Step], None] | None = None) -> dict[str, float | int]:
    """Measure networks on unseen persons: ``omote.evaluate(ReleaseSuite(persons=20), out="results")``.

    Args:
        suite: with its options; docs/evaluation.md lists all suites (`omote.studies.registry`).
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

    return finish(run_study(suite, Path(out)), on_step)


def study(study: Study, *, out: Path | str, on_step: Callable[[Step], None] | None = None) -> dict[str, float | int]:
    """Compare at equal terms, after training where that is needed: ``omote.study(Guidance(persons=5), out="runs/guidance")``.

    Args:
        study: with its options; docs/studies.md lists all studies (`omote.studies.registry`).
        out: as for `evaluate`; ``table.csv`` and ``figure.svg`` lie beside the numbers.
        on_step: called with progress.

    Returns:
        What ``out/metrics.json`` holds: flat keys ``<metric>/<row>``.

    Raises:
        OmoteError: as `evaluate`.
    """
    return evaluate(study, out=out, on_step=on_step)

"""``omote.report``: result folders as one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from omote.errors import ConfigError
from omote.files import check_file
from omote.progress import Step, Steps, finish


def report(folders: Sequence[Path | str], *, out: Path | str, on_step: Callable[[Step], None] | None = None) -> Path:
    """Write result folders as one self-contained page.

    Args:
        folders: finished folders of `omote evaluate release`. One folder gives its own report; several are compared with
            intervals and tested against the first, paired by person.
        out: path of the page (.html).
        on_step: function called with each step.

    Returns:
        ``out``.

    Raises:
        ConfigError: no folders, a repeated one, or one that is no finished result folder.
        OutputError: ``out`` cannot be written.
    """
    return finish(_report(folders, Path(out)), on_step)


def _report(folders: Sequence[Path | str], out: Path) -> Steps[Path]:
    if not folders:
        raise ConfigError("folders: expected at least one result folder")
    check_file(out, (".html",))

    from omote.evaluation.report.compare import write_comparison
    from omote.evaluation.report.results import load_results, names_of

    paths = [Path(folder) for folder in folders]
    names = names_of(paths)
    results = []
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        yield Step(stage="read", done=number, total=len(paths), note=name)
        results.append(load_results(path, name))
    yield Step(stage="report")
    write_comparison(results, out)
    return out

"""``omote.report``: result folders as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omote.errors import ConfigError
from omote.files import check_file


def report(folders: Sequence[Path | str], *, out: Path | str) -> Path:
    """Write result folders as one self-contained page.

    Args:
        folders: finished folders of `omote evaluate release`. One folder gives its own report; several are compared with
            intervals and tested against the first, paired by person.
        out: path of the page (.html).

    Returns:
        ``out``.

    Raises:
        ConfigError: no folders, a repeated one, or one that is no finished result folder.
        OutputError: ``out`` cannot be written.
    """
    if not folders:
        raise ConfigError("folders: expected at least one result folder")
    out = Path(out)
    check_file(out, (".html",))

    from omote.evaluation.report import load_results, write_comparison
    from omote.evaluation.report.results import names_of

    paths = [Path(folder) for folder in folders]
    names = names_of(paths)
    write_comparison([load_results(path, name) for path, name in zip(paths, names, strict=True)], out)
    return out

"""``omote.report``: result folders as one page; and what a folder remembers of the runs that filled it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from omote.errors import ConfigError
from omote.files import check_file
from omote.runs import Stopwatch, Value, run_facts, write_json


def report(folders: Sequence[Path | str], *, out: Path | str) -> Path:
    """Write result folders as one self-contained page.

    Args:
        folders: of `omote evaluate release`, finished. One gives its report; several are compared, with intervals, and
            tested against the first, paired by person.
        out: .html.

    Returns:
        ``out``.

    Raises:
        ConfigError: no folders, one twice, or one that is no finished result folder.
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


def write_run(path: Path, settings: Mapping[str, Value], watch: Stopwatch, *, measured: int) -> Mapping[str, Value]:
    """Write ``run.json``: what filled a result folder, on what, with which versions.

    A run that only reads what is there does not claim to have measured it: with nothing measured, an earlier record stays.
    Where several runs of different commits filled a folder, all of them are named.

    Args:
        path: of run.json.
        settings: suite, seeds, counts, weights.
        watch: of this run.
        measured: persons that this run measured.

    Returns:
        What the file holds.
    """
    earlier: dict[str, Value] = {}
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            earlier = {}
    known = str(earlier.get("run/commits") or "").split()
    if not earlier and measured < int(settings["count/persons"] or 0):
        known = ["unknown"]  # a version that kept no record measured the others
    if not measured:
        facts: dict[str, Value] = {"run/commits": " ".join(known) or None, **earlier, **settings}
    else:
        now = commit()
        commits = [*known, now] if now and now not in known else known
        facts = {
            **settings,
            **run_facts(watch),
            "run/commits": " ".join(commits) or None,
            "run/finished_utc": datetime.now(timezone.utc).isoformat(timespec="minutes"),
            "run/times_run": int(earlier.get("run/times_run") or 0) + 1,
            "count/persons_measured_last": measured,
        }
    write_json(facts, path)
    return facts


def commit() -> str | None:
    """The checkout's commit, with "+" where files differ from it; None where omote is no checkout or git is not there."""
    root = Path(__file__).resolve().parents[3]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None

    def answer(*arguments: str) -> str | None:
        done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    head = answer("rev-parse", "--short=12", "HEAD")
    if not head:
        return None
    return head + ("+" if answer("status", "--porcelain", "--untracked-files=no") else "")

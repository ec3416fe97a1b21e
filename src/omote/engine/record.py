"""The record of a run's settings, ``config.json`` and ``changes.json``, which agrees with the weights beside it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omote.engine.checkpoint import Progress
from omote.errors import ConfigError
from omote.files import atomic_path

# Settings of a run's length, hardware and reports, which do not affect what a step learns.
MAY_CHANGE = {
    "allow_pipe",
    "engine.total_images",
    "engine.max_seconds",
    "engine.accumulation",
    "engine.checkpoint_s",
    "engine.log_images",
    "engine.grid_images",
    "engine.threads",
    "engine.prefetch",
    "engine.compile",
}
MOST_NAMED = 3
ABSENT = "absent"


def settle(progress: Progress, asked: Mapping[str, Any], run: Path, *, goes_on: bool) -> None:
    """Update a run's progress with the settings that it continues with.

    Args:
        progress: progress of the run; its ``config`` and ``changes`` are updated.
        asked: config to continue with, as JSON.
        run: folder of the run, for error messages.
        goes_on: whether anything is left to train; if not, the recorded config stays.

    Raises:
        ConfigError: the weights were trained with another value of a setting that must not change.
    """
    if not progress.images:
        progress.config, progress.changes = dict(asked), []
        return
    changes = [
        {"images": progress.images, "key": key, "old": old, "new": new}
        for key, old, new in _differences(progress.config, asked)
        if not _same_place(old, new)
    ]
    refused = [change for change in changes if not _may_change(change)]
    if refused:
        told = ", ".join(
            f"{c['key']}={json.dumps(c['old'])} (got {json.dumps(c['new'])})" for c in refused[:MOST_NAMED]
        )
        more = f" and {len(refused) - MOST_NAMED} more" if len(refused) > MOST_NAMED else ""
        raise ConfigError(f"{run}: was trained with {told}{more}; leave that as it was, or give a new --run folder")
    if goes_on:
        progress.config, progress.changes = dict(asked), [*progress.changes, *changes]


def recorded_engine(progress: Progress, run: Path) -> Mapping[str, Any]:
    """The ``engine`` config that a run began with, also before its first checkpoint; empty for a new run."""
    config = progress.config
    if not config:
        with contextlib.suppress(OSError, ValueError):
            config = json.loads((run / "config.json").read_text())
    found = config.get("engine") if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def write_record(progress: Progress, run: Path) -> None:
    """Write ``config.json``, and ``changes.json`` if a setting changed during the run.

    Raises:
        OutputError: a file cannot be written.
    """
    for name, value in (("config.json", progress.config), ("changes.json", progress.changes)):
        if value or name == "config.json":
            with atomic_path(run / name) as temporary:
                temporary.write_text(json.dumps(value, indent=2) + "\n")
        else:
            (run / name).unlink(missing_ok=True)


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old value, new value) of every setting that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{key}.{name}" if key else name
            yield from _differences(old.get(name, ABSENT), new.get(name, ABSENT), inner)
    elif old != new:
        yield key, old, new


def _may_change(change: Mapping[str, Any]) -> bool:
    old, new = change["old"], change["new"]
    # A setting may be absent in another version, and a folder may have been moved: neither is a change that the user made.
    if change["key"] in MAY_CHANGE or ABSENT in (old, new):
        return True
    paths = isinstance(old, str) and isinstance(new, str)
    return paths and Path(old).name == Path(new).name and not Path(old).exists()


def _same_place(old: Any, new: Any) -> bool:
    return isinstance(old, str) and isinstance(new, str) and Path(old).resolve() == Path(new).resolve()

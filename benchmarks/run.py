"""Run a benchmark and write its numbers: ``make bench BENCH=NAME OUT=DIR``.

A benchmark is a file ``benchmarks/NAME.py`` with a function ``run() -> dict[str, float | int | str]`` of flat keys. Its
docstring says what is measured against what. The date, the machine and all versions are added to ``DIR/NAME.json``; the numbers
that were measured are also added to ``DIR/metrics.json``, which keeps those of other benchmarks.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from omote.config import nearest
from omote.errors import ConfigError, OmoteError
from omote.files import check_folder, make_folder
from omote.runs import Stopwatch, run_facts, write_json

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "run" and not p.stem.startswith("_"))


def measure(name: str) -> dict[str, float | int | str | bool | None]:
    if name not in names():
        raise ConfigError(f"{name}: no such benchmark{nearest(name, names())}")
    # By its plain name, so that worker processes find it too.
    sys.path.insert(0, str(FOLDER))
    module = importlib.import_module(name)
    watch = Stopwatch()
    result = module.run()
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"benchmark": name, "date": date, **result, **run_facts(watch)}


def add_numbers(result: Mapping[str, float | int | str | bool | None], path: Path) -> None:
    """Add a benchmark's numbers to the existing ones; its facts (machine, versions, total time) stay in its own file."""
    facts = ("version/", "machine/", "time_s/total", "memory_mb/peak")
    own = {k: v for k, v in result.items() if isinstance(v, float | int) and not k.startswith(facts)}
    before = json.loads(path.read_text()) if path.exists() else {}
    write_json({**before, **own}, path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a benchmark.", epilog=f"names: {', '.join(names())}")
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, default=Path("out"))
    given = parser.parse_args()
    try:
        check_folder(given.out)
        result = measure(given.name)
        make_folder(given.out)
        write_json(result, given.out / f"{given.name}.json")
        add_numbers(result, given.out / "metrics.json")
    except OmoteError as error:
        print(f"omote: {error}", file=sys.stderr)
        return 2
    for key, value in result.items():
        if not key.startswith(("version/", "machine/")):
            print(f"{key}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What became of each scan of a batch: one row, kept with its shard and written into the table of all."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from omote.errors import AlignmentError, OutputError, ScanError
from omote.files import atomic_path, reading
from omote.runs import Value
from omote.shards.worker import Loss

Kind = Literal["", "unreadable", "no face", "crash", "time limit", "memory limit", "memory", "defect"]
DONE = "_done"
DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class ScanRow:
    """A scan and its avatar, or the reason why there is none.

    Attributes:
        scan: name of the scan.
        made: whether there is an avatar.
        kind: kind of failure: unreadable (no scan, or a damaged one), no face (not found with confidence), crash, time limit or
            memory limit (the process was ended at this scan), memory (the computer's is used up), defect (of omote).
        reason: the failure in one line.
        avatar: path of the GLB, relative to the folder of the batch.
        report: path of the avatar's report.
        picture: path of the thumbnail.
        format: format of the scan.
        points: number of its points.
        unit: unit of its coordinates.
        confidence: confidence of its pose.
        doubtful: whether the pose should be looked at.
        median_mm: median distance of the fitted head from the scan, in mm.
        p90_mm: nine tenths of the distances are below this one.
        glb_bytes: size of the GLB.
    """

    scan: str
    made: bool
    kind: Kind = ""
    reason: str = ""
    avatar: str = ""
    report: str = ""
    picture: str = ""
    format: str = ""
    points: int | None = None
    unit: str = ""
    confidence: float | None = None
    doubtful: bool | None = None
    median_mm: float | None = None
    p90_mm: float | None = None
    glb_bytes: int | None = None


def failed_row(scan: str, error: Exception | Loss) -> ScanRow:
    """Row of a scan without an avatar.

    Args:
        scan: name of the scan.
        error: an error that a scan may cause, or the loss of the process that made its avatar.
    """
    if isinstance(error, Loss):
        return ScanRow(scan=scan, made=False, kind=error.kind, reason=error.reason)
    kind: Kind = "defect"
    reason = " ".join(str(error).split())[:500]
    if isinstance(error, ScanError):
        kind = "unreadable"
    elif isinstance(error, AlignmentError):
        kind = "no face"
    elif isinstance(error, MemoryError):
        kind, reason = "memory", "the memory of this computer is used up"
    else:
        reason = f"{type(error).__name__}: {reason}{_place(error)}"
    return ScanRow(scan=scan, made=False, kind=kind, reason=reason)


def made_row(scan: str, facts: Mapping[str, Value], *, avatar: str, report: str, picture: str) -> ScanRow:
    """Row of a scan with an avatar.

    Args:
        scan: name of the scan.
        facts: content of the avatar's report.
        avatar: path of the GLB.
        report: path of the report.
        picture: path of the thumbnail.
    """

    def number(key: str) -> float | None:
        value = facts.get(key)
        return round(float(value), DIGITS) if isinstance(value, int | float) else None

    points, size, doubtful = (facts.get(key) for key in ("scan/num_points", "output/glb_bytes", "align/doubtful"))
    return ScanRow(
        scan=scan,
        made=True,
        avatar=avatar,
        report=report,
        picture=picture,
        format=str(facts.get("scan/format") or ""),
        points=points if isinstance(points, int) else None,
        unit=str(facts.get("align/unit") or ""),
        confidence=number("align/confidence"),
        doubtful=None if doubtful is None else bool(doubtful),
        median_mm=number("fit/median_mm"),
        p90_mm=number("fit/p90_mm"),
        glb_bytes=size if isinstance(size, int) else None,
    )


def write_rows(path: Path, rows: Sequence[ScanRow]) -> None:
    """Write rows, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def read_rows(path: Path) -> list[ScanRow]:
    """Rows that `write_rows` wrote.

    Raises:
        OutputError: the file is damaged.
    """
    with reading(path, OutputError, "damaged", f"delete {path.parent} and run the same command again"):
        return [ScanRow(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def write_table(rows: Iterable[ScanRow], out: Path) -> list[Path]:
    """Write ``table.csv``, and ``table.parquet`` if pyarrow is installed.

    Returns:
        The files.

    Raises:
        OutputError: they cannot be written.
    """
    rows, names = list(rows), [field.name for field in fields(ScanRow)]
    written = [out / "table.csv"]
    with atomic_path(written[0]) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(getattr(row, name)) for name in names])
    if importlib.util.find_spec("pyarrow") is not None:
        written.append(out / "table.parquet")
        _write_parquet(rows, written[-1])
    return written


def counted(rows: Iterable[ScanRow]) -> dict[str, int]:
    """Numbers of failures by kind, the most frequent first."""
    return dict(Counter(row.kind for row in rows if not row.made).most_common())


def _cell(value: str | int | float | bool | None) -> str:
    # A spreadsheet would run a name that begins like a formula.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _write_parquet(rows: Sequence[ScanRow], path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {"str": pyarrow.string(), "Kind": pyarrow.string(), "bool": pyarrow.bool_(), "int": pyarrow.int64(),
             "float": pyarrow.float64()}  # fmt: skip
    columns = [(f.name, types[str(f.type).removesuffix(" | None")]) for f in fields(ScanRow)]
    table = pyarrow.Table.from_pylist([asdict(row) for row in rows], schema=pyarrow.schema(columns))
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")


def _place(error: Exception) -> str:
    """Where a defect is, for its report."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""

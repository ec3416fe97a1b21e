"""Several frames: one, three or twelve depth frames of a head that turns, fused, on unseen persons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from omote.config import Range
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.records import Row, Table
from omote.evaluation.statistics import Interval, bootstrap_mean, paired_test
from omote.progress import Steps
from omote.studies.base import FREE, PersonStudy, Record, Results, Work
from omote.studies.table import cell

PARTS = ("ears", "profile", "face", "head")
SCAN, AVATAR, POSES = "scan", "avatar", "poses"
PoseSource = Literal["found", "given"]


@dataclass(frozen=True, kw_only=True)
class Frames(PersonStudy):
    """Scans and avatars of one, three or twelve depth frames of a head that turns: errors in ears, profile, face and head.

    Each person turns before one of three physical depth cameras. Frames look from the middles of equal parts of the half circle,
    and stray from them.

    Attributes:
        frames: numbers of frames.
        poses: poses that are found, and true ones given with the frames, as a ceiling.
        size: width and height of the frames in pixels; 320 are 1.3 mm a pixel.
    """

    NAME = "frames"
    TINY: ClassVar[Mapping[str, Any]] = {"persons": 1, "frames": (1, 3), "poses": ("found",), "size": 200}

    persons: Annotated[int, Range(1), FREE] = 60
    frames: tuple[int, ...] = (1, 3, 12)
    poses: tuple[PoseSource, ...] = ("found", "given")
    size: Annotated[int, Range(96, 1024)] = 320

    def check(self) -> None:
        """Check the numbers of frames.

        Raises:
            ConfigError: no number, one twice, or one that is no number of frames; no poses, or some twice.
        """
        if not self.frames or list(self.frames) != sorted(set(self.frames)) or self.frames[0] < 1:
            raise ConfigError(
                f"frames: expected numbers over 0 in rising order, got {' '.join(map(str, self.frames)) or 'none'}"
            )
        if self.frames[-1] > 36:
            raise ConfigError(f"frames: expected at most 36, got {self.frames[-1]}")
        if not self.poses or len(set(self.poses)) < len(self.poses):
            raise ConfigError(f"poses: expected found, given or both, got {' '.join(self.poses) or 'none'}")

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of the completion that avatars take for scans that lack depth."""
        from omote.completion.names import BEST, shipped_completion
        from omote.rgbd.weights import fingerprint

        return {BEST: fingerprint(shipped_completion())}

    def items(self) -> list[tuple[int, PoseSource]]:
        """Numbers of frames and where their poses are from; one frame has none."""
        return [(n, p) for n in self.frames for p in (self.poses if n > 1 else ("found",))]

    def run(self, work: Work) -> Steps[Results]:
        """Measure every person, and test each number of frames against the next smaller one."""
        from omote.studies.frames_meter import Meter

        meter = Meter(self, work.out)
        persons = yield from work.records("persons", self.names(), meter.person)
        table, notes = summarised(list(persons.values()), self.frames)
        return Results(table=table, notes=notes, figure=figure(charts(table), columns=2), page=meter.page)

    def summary(self, numbers: Mapping[str, float | int]) -> str:
        """Errors of the avatars by the number of frames."""
        lines = []
        for count in self.frames:
            found = [
                f"{part} {value:.2f} mm"
                for part in PARTS
                if (value := numbers.get(f"turn/{part}_mm/{_row(AVATAR, count, 'found')}")) is not None
            ]
            lines.append(f"{count} frames: avatar's {', '.join(found)}" if found else f"{count} frames: no avatar")
        return "\n".join(lines)


def _row(name: str, count: int, poses: str) -> Row:
    return Row(name).under(frames=count, **({"poses": poses} if count > 1 else {}))


def summarised(
    found: Sequence[Record], counts: Sequence[int]
) -> tuple[dict[Row, dict[str, Interval | float]], dict[Row, dict[str, str | float]]]:
    """Means over persons, over all and by head family, and paired tests of each number of frames against the next smaller one."""
    table: dict[Row, dict[str, Interval | float]] = {}
    notes: dict[Row, dict[str, str | float]] = {}
    families = sorted({str(person["head"]) for person in found})
    for head in (None, *(families if len(families) > 1 else ())):
        persons = [person for person in found if head in (None, person["head"])]
        at = {} if head is None else {"head": head}
        for item in found[0]["cases"] if found else ():
            count, poses = int(item.partition("_")[0]), item.partition("_")[2]
            cases = [person["cases"][item] for person in persons]
            for name in sorted({name for case in cases for name in case}, reverse=True):
                keys = next(list(case[name]) for case in cases if name in case)
                row = _row(name, count, poses).under(**at)
                cells = {key: _values(cases, name, key) for key in keys}
                table[row] = {key: bootstrap_mean(values) for key, values in cells.items()}
                table[row]["turn/refused"] = float(np.mean([name not in case for case in cases]))
                fewer = max((n for n in counts if n < count), default=None)
                if fewer is None or name == POSES or len(cases) < 2:
                    continue
                others = [person["cases"][f"{fewer}_{poses if fewer > 1 else 'found'}"] for person in persons]
                notes[row] = {
                    f"p_{part}_vs_fewer": paired_test(cells[key], _values(others, name, key)).p_value
                    for part in PARTS
                    if (key := f"turn/{part}_mm") in cells
                }
    return table, notes


def _values(cases: Sequence[Mapping[str, Mapping[str, float]]], name: str, key: str) -> Any:
    return np.array([case[name][key] if name in case else np.nan for case in cases], np.float64)


def charts(table: Table) -> list[str]:
    """A chart a part of the head: surface error of scans and avatars by the number of frames."""
    from omote.evaluation.catalogue import metric_of

    out = []
    for part in PARTS:
        metric = metric_of(key := f"turn/{part}_mm")
        shown = {}
        for row in table:
            value = cell(table, row, key)
            if value is not None and not row.on("head"):
                given = ", true poses" if row.on("poses") == "given" else ""
                shown[f"{row.name}, {row.on('frames')}{given}"] = (value.value, value.low, value.high)
        if shown:
            ends = [0.0, *(end for three in shown.values() for end in three if end == end)]
            out.append(row_chart(metric.title, dict(sorted(shown.items())), axis_over(metric.label(), ends)))
    return out

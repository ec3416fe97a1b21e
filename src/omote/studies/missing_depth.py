"""Missing depth: kinds of missing surface × ways to complete it, on unseen persons and on real scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from omote.config import Range
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.records import Row, Table
from omote.evaluation.statistics import Interval, bootstrap_mean, paired_test
from omote.progress import Steps
from omote.studies.base import FREE, ModelStudy, PersonStudy, Record, Results, Work, named
from omote.studies.table import cell

KindName = Literal["dropouts", "outline", "dark", "eyes", "turned", "sparse", "half", "mask"]
StrengthName = Literal["mild", "strong"]
SURFACE, REFUSED, SECONDS = "completion/surface_mm_missing", "completion/refused", "time_s/completion"
AGAINST = "restoration"


@dataclass(frozen=True, kw_only=True)
class MissingDepth(PersonStudy, ModelStudy):
    """Completions of partial scans: errors where the scan has surface and where it lacks it, and whether their σ is true.

    Attributes:
        kinds: kinds of missing surface.
        strengths: strengths of each kind.
        networks: folder of trained completions, as exports or runs: ``volume``, ``sparse``, ``part-graph``, ``diffusion``. Those
            without weights are left out.
        scans: folder of whole real scans, which are captured and completed too; the whole scan is the truth.
        avatars: number of persons whose avatars are made, at the greatest strength; may be more than are completed alone.
        avatars_by: completions that avatars are made by; all if none is named.
    """

    NAME = "missing-depth"
    TINY: ClassVar[Mapping[str, Any]] = {"persons": 1, "kinds": ("mask",), "strengths": ("strong",), "avatars": 0}

    persons: Annotated[int, Range(1), FREE] = 60
    kinds: tuple[KindName, ...] = ("dropouts", "outline", "dark", "eyes", "turned", "sparse", "half", "mask")
    strengths: tuple[StrengthName, ...] = ("mild", "strong")
    networks: Path | None = None
    scans: Annotated[Path | None, FREE] = None
    avatars: Annotated[int, Range(0), FREE] = 0
    avatars_by: tuple[str, ...] = ()

    def check(self) -> None:
        """Check the kinds and the folders of networks and scans.

        Raises:
            ConfigError: no kind or strength, or one twice; a folder without any network or scan.
        """
        from omote.studies.completion_methods import METHODS, NOTHING, TRAINED, exported

        for what, names in (("kinds", self.kinds), ("strengths", self.strengths)):
            if not names or len(set(names)) < len(names):
                raise ConfigError(f"{what}: expected at least one, each once, got {', '.join(names) or 'none'}")
        if self.networks is not None and not any(exported(name, self.networks) for name in TRAINED):
            raise ConfigError(
                f"networks: expected a folder with weights of any of {', '.join(TRAINED)}, got {self.networks}, "
                "which has none; give the folder that contains the runs"
            )
        if unknown := set(self.avatars_by) - (set(METHODS) - {NOTHING}):
            raise ConfigError(
                f"avatars_by: expected completions of {', '.join(m for m in METHODS if m != NOTHING)}, "
                f"got {', '.join(sorted(unknown))}"
            )
        self.scan_paths()

    def scan_paths(self) -> dict[str, Path]:
        """Real scans by name.

        Raises:
            ConfigError: the folder is none, or holds no scan.
        """
        if self.scans is None:
            return {}
        from omote.formats.read import FORMATS

        paths = sorted(path for path in self.scans.glob("*") if path.suffix.lower() in FORMATS)
        if not paths:
            raise ConfigError(f"scans: expected a folder with scans, got {self.scans}; give --scans FOLDER")
        return {path.stem: path for path in paths}

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the trained completions."""
        from omote.rgbd.weights import fingerprint
        from omote.studies.completion_methods import METHODS, exported

        folders = {name: exported(name, self.networks) for name in METHODS}
        found = {name: fingerprint(folder) for name, folder in folders.items() if folder is not None}
        return {**super().fingerprints(), **found}

    def run(self, work: Work) -> Steps[Results]:
        """Measure every person and scan, and test each completion against today's restoration."""
        from omote.evaluation.summary import merged
        from omote.studies.missing_depth_meter import Meter, write_examples

        meter = Meter(self)
        persons = yield from work.records("persons", self.names(), meter.person)
        scans = yield from work.records("scans", list(self.scan_paths()), meter.scan) if self.scans else _none()
        table, notes = summarised(list(persons.values()))
        of_scans, _ = summarised(list(scans.values()))
        table |= {row.under(input="scan"): cells for row, cells in of_scans.items()}
        if self.avatars:
            made = yield from work.records("avatars", named(self.avatars), meter.avatars)
            avatars, tests = of_avatars(list(made.values()))
            table = merged(table, avatars)
            for row, p_values in tests.items():
                notes.setdefault(row, {}).update(p_values)
        yield from write_examples(work, meter, persons)
        numbers: dict[str, float | int] = {f"model/parameters/{name}": n for name, n in meter.parameters().items()}
        numbers |= {f"training/hours/{name}": hours for name, hours in meter.hours().items()}
        return Results(
            table=table,
            notes=notes,
            numbers={**numbers, **({"count/scans": len(scans)} if scans else {})},
            figure=figure(charts(table, self.kinds), columns=4),
            page=meter.page,
        )


def of_avatars(
    found: Sequence[Record],
) -> tuple[dict[Row, dict[str, Interval | float]], dict[Row, dict[str, str | float]]]:
    """Means of the avatars' metrics over persons, by kind and over all kinds, and paired tests against `AGAINST`."""
    table: dict[Row, dict[str, Interval | float]] = {}
    notes: dict[Row, dict[str, str | float]] = {}
    items = list(found[0]["cases"]) if found else []
    rows: dict[tuple[str, ...], dict[str, str]] = {
        (item,): dict(zip(("kind", "strength"), item.split("_"), strict=True)) for item in items
    }
    if len(items) > 1:
        rows[tuple(items)] = {"strength": items[0].split("_")[1]}
    for several, at in rows.items():
        kept = [cases for person in found if (cases := [person["cases"][i] for i in several if person["cases"][i]])]
        made = sum(len(cases) for cases in kept)
        cells: dict[str, dict[str, Any]] = {}
        for name in kept[0][0] if kept else ():
            keys = kept[0][0][name]
            cells[name] = {
                key: _array([np.mean([case[name][key] for case in cases]) for cases in kept]) for key in keys
            }
            row = Row(name).under(**at)
            table[row] = {key: bootstrap_mean(values) for key, values in cells[name].items()}
            table[row]["refused/share"] = 1 - made / (len(found) * len(several))
        for name in cells.keys() - {AGAINST} if AGAINST in cells and len(kept) > 1 else ():
            notes[Row(name).under(**at)] = {
                f"p_{key.split('/')[1]}_vs_{AGAINST}": paired_test(values, cells[AGAINST][key]).p_value
                for key, values in cells[name].items()
            }
    return table, notes


def _none() -> Steps[dict[str, Record]]:
    yield from ()
    return {}


def summarised(
    found: Sequence[Record],
) -> tuple[dict[Row, dict[str, Interval | float]], dict[Row, dict[str, str | float]]]:
    """Means over persons by kind and strength, over all and by head family, and paired tests against `AGAINST`."""
    table: dict[Row, dict[str, Interval | float]] = {}
    notes: dict[Row, dict[str, str | float]] = {}
    families = sorted({str(person["head"]) for person in found if person["head"]})
    for item in found[0]["cases"] if found else ():
        kind, strength = item.split("_")
        for head in (None, *(families if len(families) > 1 else ())):
            cases = [person["cases"][item] for person in found if head in (None, person["head"])]
            at = {"kind": kind, "strength": strength, **({} if head is None else {"head": head})}
            kept = [case for case in cases if case]
            refused = 1 - len(kept) / len(cases)
            for name in kept[0] if kept else ():
                row = Row(name).under(**at)
                cells = {key: _array([case[name][key] for case in kept]) for key in kept[0][name]}
                # What no person has is left out.
                table[row] = {
                    key: bootstrap_mean(values)
                    for key, values in cells.items()
                    if key != SECONDS and np.isfinite(values).any()
                }
                table[row] |= {SECONDS: float(np.median(cells[SECONDS])), REFUSED: refused}
                if name != AGAINST and len(kept) > 1:
                    other = _array([case[AGAINST][SURFACE] for case in kept])
                    notes[row] = {f"p_surface_vs_{AGAINST}": paired_test(cells[SURFACE], other).p_value}
    return table, notes


def _array(values: Sequence[float | None]) -> Any:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def charts(table: Table, kinds: Sequence[str]) -> list[str]:
    """A chart a kind: surface error where the scan lacks surface, at its greatest strength, by method."""
    from omote.evaluation.catalogue import metric_of

    out = []
    for kind in kinds:
        rows = [row for row in table if row.on("kind") == kind and not row.on("head") and not row.on("input")]
        last = rows[-1].on("strength") if rows else None
        found = {row.name: cell(table, row, SURFACE) for row in rows if row.on("strength") == last}
        shown = {name: (at.value, at.low, at.high) for name, at in found.items() if at is not None}
        if shown:
            ends = [0.0, *(end for three in shown.values() for end in three if end == end)]
            title = f"{kind}, {last}: {metric_of(SURFACE).title}"
            out.append(row_chart(title, shown, axis_over(metric_of(SURFACE).label(), ends)))
    return out

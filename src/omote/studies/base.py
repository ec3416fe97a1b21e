"""One mechanism for suites and studies: a typed config, one function, and a result folder that can be resumed.

A study is a frozen dataclass whose fields are its options (their docstrings are the help texts) and whose `Study.run` measures::

    @dataclass(frozen=True, kw_only=True)
    class Means(PersonStudy):
        '''How far the means of random numbers are spread.

        Attributes:
            count: numbers per mean.
        '''

        NAME = "means"
        count: Annotated[int, Range(1)] = 10

        def run(self, work: Work) -> Steps[Results]:
            import torch  # what takes long to import is imported here: `--help` imports this module

            def measure(name: str) -> Record:
                return {"mean": torch.randn(self.count, generator=torch.manual_seed(int(name))).mean().item()}

            found = yield from work.records("persons", self.names(), measure)
            spread = bootstrap_mean(np.array([record["mean"] ** 2 for record in found.values()]))
            return Results(table={Row("normal"): {"spread/variance": spread}})

Its keys are metrics of the catalogue (`omote.evaluation.catalogue.register`). Listed in `omote.studies.registry`, it is
``omote study means --out DIR --persons 100 --count 5``. `run_study` claims the folder (``config.json``), calls `Study.run` and
writes what it returns: ``metrics.json`` (``<metric>/<row>``), ``table.csv`` (with the ends of the intervals), ``figure.svg``,
``run.json`` (versions, machine, seconds, weights) and the study's own page.

Every item of work is a file that appears whole or not at all. A killed run therefore resumes where it was, and any number of
processes may run the same command on one folder: each takes the items that no other holds, and all end with the whole table.
"""  # noqa: D214 (an example within an example)

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, TypeVar, get_type_hints

from omote.config import Range, from_json, to_json
from omote.errors import OutputError
from omote.evaluation.records import Row, Table
from omote.files import atomic_path, check_folder, make_folder
from omote.progress import Step, Steps
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend, fingerprint
from omote.runs import Stopwatch, Value, prefixed, write_run
from omote.studies.table import flat, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omote.datasets.population import PopulationConfig
    from omote.rgbd.model import EditingModel

Item = TypeVar("Item")
# What an item's JSON file holds.
Record: TypeAlias = Mapping[str, Any]

# Marks a field that kept items do not depend on: it may grow, or `Study.fingerprints` compares what it names.
FREE = "free"
# The row of the model that is measured.
MODEL = "model"
# How often a process looks whether another has finished an item.
POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a study found.

    Attributes:
        table: ``table.csv``, and flat in ``metrics.json``.
        notes: further columns of ``table.csv`` alone, by row.
        numbers: further flat keys of ``metrics.json``.
        figure: the text of ``figure.svg``; none if empty.
        facts: more for ``run.json``.
        page: writes the study's page into the folder, last of all; it may read the other files.
    """

    table: Table = field(default_factory=dict)
    notes: Mapping[Row, Mapping[str, str | float]] = field(default_factory=dict)
    numbers: Mapping[str, float | int] = field(default_factory=dict)
    figure: str = ""
    facts: Mapping[str, Value] = field(default_factory=dict)
    page: Callable[[Path], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """A suite or a study: subclasses add their options as fields, with a default where there is one."""

    NAME: ClassVar[str]
    # Values of fields for a trial of seconds, whose results mean nothing; `--tiny` where there are any.
    TINY: ClassVar[Mapping[str, Any]] = {}

    def check(self) -> None:  # noqa: B027 (an optional hook)
        """Refuse what cannot be measured, before the folder is claimed.

        Raises:
            OmoteError: it cannot.
        """

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the weights that kept items depend on, by row."""
        return {}

    @abstractmethod
    def run(self, work: Work) -> Steps[Results]:
        """Measure into ``work.out``, and summarise."""

    def summary(self, numbers: Mapping[str, float | int]) -> str:
        """Lines that the command line prints at the end."""
        return ""


@dataclass(frozen=True, kw_only=True)
class PersonStudy(Study):
    """A study of persons that no network has seen.

    Attributes:
        persons: number of unseen persons, each with seven expressions.
        ict: an ICT-FaceKit checkout or .npz; half of the persons come from it.
        seed: seed of persons and noise.
    """

    persons: Annotated[int, Range(1), FREE] = 20
    ict: Path | None = None
    seed: int = 0

    def unseen(self) -> PopulationConfig:
        """The persons of the test split."""
        from omote.datasets.population import PopulationConfig
        from omote.head.expressions import CATEGORIES

        return PopulationConfig(seed=self.seed, split="test", num_images=len(CATEGORIES), ict=self.ict)

    def names(self) -> list[str]:
        """An item per person."""
        return [f"{index:06d}" for index in range(self.persons)]


@dataclass(frozen=True, kw_only=True)
class ModelStudy(Study):
    """A study of an editing model.

    Attributes:
        backend: library that runs the networks.
        weights: a run's export folder; the shipped weights by default.
    """

    backend: Backend = "auto"
    weights: Annotated[Path | None, FREE] = None

    @property
    def folder(self) -> Path:
        """The weights in use."""
        return SHIPPED_WEIGHTS if self.weights is None else self.weights

    def fingerprints(self) -> Mapping[str, str]:
        """Of the editor and its first stage."""
        return {MODEL: fingerprint(self.folder)}

    def model(self) -> EditingModel:
        """The networks.

        Raises:
            CheckpointError: missing or damaged weights.
        """
        from omote.studies.networks import load_editor

        return load_editor(self.folder, self.backend)


class Work:
    """A result folder while a study fills it.

    Attributes:
        out: the folder.
        watch: seconds per stage, for run.json.
        made: number of items that this process made.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.watch = Stopwatch()
        self.made = 0

    def records(
        self, folder: str, names: Sequence[str], measure: Callable[[str], Record | Steps[Record]]
    ) -> Steps[dict[str, Record]]:
        """`kept` as JSON."""
        return self.kept(folder, names, measure, _save, _load)

    def kept(
        self,
        folder: str,
        names: Sequence[str],
        make: Callable[[str], Item | Steps[Item]],
        save: Callable[[Path, Item], None],
        load: Callable[[Path], Item],
    ) -> Steps[dict[str, Item]]:
        """Make each item into ``folder/NAME.json``, unless it is there.

        Args:
            folder: folder of the items' files, inside the result folder.
            names: names of the items.
            make: an item's name → what its file holds; a generator may yield steps of its own before it returns that.
            save: writes a file, whole or not at all.
            load: reads it back.

        Returns:
            Name → what its file holds, of all items.
        """
        files = {name: self.out / folder / f"{name}.json" for name in names}
        make_folder(self.out / folder)

        def made(name: str) -> Steps[None]:
            item = make(name)
            if isinstance(item, Generator):
                item = yield from item
            save(files[name], item)

        yield from self.items({name: [path] for name, path in files.items()}, made, stage=folder)
        return {name: load(path) for name, path in files.items()}

    def items(
        self, files: Mapping[str, Sequence[Path]], make: Callable[[str], Steps[None]], *, stage: str
    ) -> Steps[None]:
        """Make each item whose files are not all there; of several processes on one folder, each takes what no other holds.

        Args:
            files: name of an item → all that it consists of, each written atomically.
            make: writes what is missing of an item.
            stage: stage that steps are reported under.
        """
        waiting, done = list(files), 0
        while waiting:
            held = []
            for name in waiting:
                yield Step(stage=stage, done=done, total=len(files), note=name)
                with self.lock(f"{stage}_{name}", wait=False) as mine:
                    there = all(path.exists() for path in files[name])
                    if mine and not there:
                        yield from make(name)
                        self.made += 1
                if mine or there:
                    done += 1
                else:
                    held.append(name)
            waiting = held
            if waiting:
                yield Step(stage=stage, done=done, total=len(files), note="waiting for another process")
                time.sleep(POLL_S)

    def claim(self, study: Study) -> Mapping[str, str]:
        """Write what the folder's results are of into ``config.json``.

        Returns:
            The fingerprints of the study's weights.

        Raises:
            OutputError: it holds results of other settings or weights, which must not stand in one table with these.
        """
        hints = get_type_hints(type(study), include_extras=True)
        free = {name for name, hint in hints.items() if FREE in getattr(hint, "__metadata__", ())}
        weights = dict(study.fingerprints())
        settings = {"study": study.NAME, "weights": weights, "config": to_json(study)}
        path = self.out / "config.json"
        make_folder(self.out)
        with self.lock("config"):
            try:
                earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else settings
                if "study" not in earlier:
                    raise OutputError(f"{self.out}: made by an older version of omote; measure into another folder")
                same = _without(earlier, free) == _without(settings, free)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise OutputError(f"{path}: expected the settings of earlier results; give another folder") from None
            if not same:
                raise OutputError(f"{self.out}: holds results of other settings or weights; give another folder")
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return weights

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold ``name`` among the processes on this folder; the lock of a killed process is free.

        Args:
            name: name of an item, or of a preparation that one process makes for all.
            wait: until it is free; otherwise false is given where another process holds it.
        """
        from filelock import FileLock, Timeout

        path = self.out / f".{name.replace('/', '_')}.lock"
        lock = FileLock(path, blocking=wait)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            lock.release()


def run_study(study: Study, out: Path) -> Steps[dict[str, float | int]]:
    """Run a suite or study into a folder.

    Args:
        study: suite or study to run.
        out: made if missing; results of the same study that are there are kept.

    Returns:
        What ``metrics.json`` holds: flat keys ``<metric>/<row>``.

    Raises:
        ConfigError: a value out of range, or one that cannot be measured.
        CheckpointError: missing or damaged weights.
        JudgeError: the judges are not installed.
        OutputError: ``out`` cannot be written, or holds results of other settings or weights.
    """
    from omote.evaluation.catalogue import write_metrics

    study = from_json(type(study), to_json(study))  # checks the ranges
    check_folder(out)
    study.check()
    work = Work(out)
    weights = work.claim(study)
    with work.watch("measure"):
        results = yield from study.run(work)
    count = {"count/persons": study.persons} if isinstance(study, PersonStudy) else {}
    numbers = {**count, **flat(results.table), **results.numbers}
    write_metrics(out / "metrics.json", numbers)
    if results.table:
        write_table(results.table, out / "table.csv", results.notes)
    if results.figure:
        with atomic_path(out / "figure.svg") as temporary:
            temporary.write_text(results.figure, encoding="utf-8")
    facts = {
        "run/study": study.NAME,
        **{f"run/weights_{row}": value for row, value in weights.items()},
        **prefixed("config", to_json(study)),
        **{key: value for key, value in numbers.items() if key.startswith("count/")},
        **results.facts,
    }
    write_run(out / "run.json", facts, work.watch, measured=work.made)
    if results.page is not None:
        yield Step(stage="report")
        results.page(out)
    return numbers


def _save(path: Path, record: Record) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")


def _load(path: Path) -> Record:
    record: Record = json.loads(path.read_text(encoding="utf-8"))
    return record


def _without(settings: Mapping[str, Any], free: set[str]) -> dict[str, Any]:
    return {**settings, "config": {key: value for key, value in settings["config"].items() if key not in free}}

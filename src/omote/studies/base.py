"""The common mechanism of suites and studies: a typed config, one function, and a result folder that can be resumed.

A study is a frozen dataclass whose fields are its options (their docstrings are the help texts) and whose `Study.run` measures::

    @dataclass(frozen=True, kw_only=True)
    class Means(PersonStudy):
        '''Spread of the means of random numbers.

        Attributes:
            count: number of random numbers per mean.
        '''

        NAME = "means"
        count: Annotated[int, Range(1)] = 10

        def run(self, work: Work) -> Steps[Results]:
            import torch  # slow imports belong here: `--help` imports this module

            def measure(name: str) -> Record:
                return {"mean": torch.randn(self.count, generator=torch.manual_seed(int(name))).mean().item()}

            found = yield from work.records("persons", self.names(), measure)
            spread = bootstrap_mean(np.array([record["mean"] ** 2 for record in found.values()]))
            return Results(table={Row("normal"): {"spread/variance": spread}})

Its keys are metrics of the catalogue (`omote.evaluation.catalogue.register`). Listed in `omote.studies.registry`, it becomes the
command ``omote study means --out DIR --persons 100 --count 5``. `run_study` claims the folder (``config.json``), calls
`Study.run` and writes its results: ``metrics.json`` (``<metric>/<row>``), ``table.csv`` (with the intervals' bounds),
``figure.svg``, ``run.json`` (versions, machine, seconds, weights) and the study's own page.

Every item of work is a file that is either written whole or not at all. A killed run therefore resumes, and any number of
processes may run the same command on one folder: each takes items that no other process holds, and all of them write the complete
table.
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
from omote.files import atomic_path, check_folder, held, make_folder, refuse_links
from omote.progress import Step, Steps
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend, fingerprint
from omote.runs import Stopwatch, Value, prefixed, write_run
from omote.studies.table import flat, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omote.datasets.population import PopulationConfig
    from omote.rgbd.model import EditingModel

Item = TypeVar("Item")
# Content of an item's JSON file.
Record: TypeAlias = Mapping[str, Any]

# Marks a field that kept items do not depend on: it may grow, or `Study.fingerprints` covers it.
FREE = "free"
# Name of the measured model's row.
MODEL = "model"
# Interval in which a process checks whether another one has finished an item.
POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of a study.

    Attributes:
        table: content of ``table.csv``, also written flat to ``metrics.json``.
        notes: further columns of ``table.csv``, by row.
        numbers: further flat keys of ``metrics.json``.
        figure: text of ``figure.svg``; if empty, no figure is written.
        facts: further entries of ``run.json``.
        page: function that writes the study's page into the folder after all other files, which it may read.
    """

    table: Table = field(default_factory=dict)
    notes: Mapping[Row, Mapping[str, str | float]] = field(default_factory=dict)
    numbers: Mapping[str, float | int] = field(default_factory=dict)
    figure: str = ""
    facts: Mapping[str, Value] = field(default_factory=dict)
    page: Callable[[Path], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """A suite or a study: subclasses add their options as fields, with defaults where possible."""

    NAME: ClassVar[str]
    # Field values of `--tiny`, a trial of seconds whose results mean nothing; no such option if empty.
    TINY: ClassVar[Mapping[str, Any]] = {}

    def check(self) -> None:  # noqa: B027 (an optional hook)
        """Reject impossible settings, before the folder is claimed.

        Raises:
            OmoteError: the settings cannot be measured.
        """

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints by row of the weights that kept items depend on."""
        return {}

    @abstractmethod
    def run(self, work: Work) -> Steps[Results]:
        """Measure into ``work.out``, and return the results."""

    def summary(self, numbers: Mapping[str, float | int]) -> str:
        """Lines that the command line prints at the end."""
        return ""


@dataclass(frozen=True, kw_only=True)
class PersonStudy(Study):
    """A study of unseen persons.

    Attributes:
        persons: number of unseen persons, each with seven expressions.
        ict: ICT-FaceKit checkout or .npz file, which half of the persons are drawn from.
        seed: seed of persons and noise.
    """

    persons: Annotated[int, Range(1), FREE] = 20
    ict: Path | None = None
    seed: int = 0

    def unseen(self) -> PopulationConfig:
        """The population of the test split."""
        from omote.datasets.population import PopulationConfig
        from omote.head.expressions import CATEGORIES

        return PopulationConfig(seed=self.seed, split="test", num_images=len(CATEGORIES), ict=self.ict)

    def names(self) -> list[str]:
        """Names of the items, one per person."""
        return named(self.persons)


def named(count: int) -> list[str]:
    """Names of the first persons."""
    return [f"{index:06d}" for index in range(count)]


@dataclass(frozen=True, kw_only=True)
class ModelStudy(Study):
    """A study of an editing model.

    Attributes:
        backend: library that runs the networks.
        weights: export folder of a run; the shipped weights by default.
    """

    backend: Backend = "auto"
    weights: Annotated[Path | None, FREE] = None

    @property
    def folder(self) -> Path:
        """Folder of the weights in use."""
        return SHIPPED_WEIGHTS if self.weights is None else self.weights

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the editor and its first stage."""
        return {MODEL: fingerprint(self.folder)}

    def model(self) -> EditingModel:
        """The editing model.

        Raises:
            CheckpointError: missing or damaged weights.
        """
        from omote.studies.networks import load_editor

        return load_editor(self.folder, self.backend)


class Work:
    """A result folder of a running study.

    Attributes:
        out: path of the folder.
        watch: stopwatch of the stages, for run.json.
        made: number of items made by this process.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.watch = Stopwatch()
        self.made = 0

    def records(
        self, folder: str, names: Sequence[str], measure: Callable[[str], Record | Steps[Record]]
    ) -> Steps[dict[str, Record]]:
        """`kept` with items in JSON files."""
        return self.kept(folder, names, measure, _save, _load)

    def kept(
        self,
        folder: str,
        names: Sequence[str],
        make: Callable[[str], Item | Steps[Item]],
        save: Callable[[Path, Item], None],
        load: Callable[[Path], Item],
    ) -> Steps[dict[str, Item]]:
        """Make the file ``folder/NAME.json`` of each item that has none.

        Args:
            folder: folder of the items' files, inside the result folder.
            names: names of the items.
            make: function from an item's name to its content; a generator may yield steps before it returns the content.
            save: function that writes a file, whole or not at all.
            load: function that reads a file back.

        Returns:
            The content of all items, by name.
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
        """Make each item that lacks files; of several processes on one folder, each takes items that no other process holds.

        Args:
            files: all files of each item, each written atomically.
            make: function that writes an item's missing files.
            stage: stage of the yielded steps.
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
        """Record in ``config.json`` what the folder's results depend on.

        Returns:
            The fingerprints of the study's weights.

        Raises:
            OutputError: the folder holds results of other settings or weights, which must not be mixed with these in one table.
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
        """Hold the lock ``name`` among all processes on this folder; a killed process releases its lock.

        Args:
            name: name of an item, or of a preparation that one process makes for all.
            wait: whether to wait for the lock; otherwise false is yielded if another process holds it.
        """
        with held(self.out / f".{name.replace('/', '_')}.lock", wait=wait) as mine:
            yield mine


def run_study(study: Study, out: Path) -> Steps[dict[str, float | int]]:
    """Run a suite or study into a folder.

    Args:
        study: suite or study to run.
        out: result folder, made if missing; existing results of the same study are kept.

    Returns:
        The content of ``metrics.json``: flat keys ``<metric>/<row>``.

    Raises:
        ConfigError: a value is out of range, or cannot be measured.
        CheckpointError: missing or damaged weights.
        JudgeError: the judges are not installed.
        OutputError: ``out`` cannot be written, or holds results of other settings or weights.
    """
    from omote.evaluation.catalogue import write_metrics

    study = from_json(type(study), to_json(study))  # checks the ranges
    check_folder(out)
    refuse_links(out)
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

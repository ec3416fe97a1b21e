"""Options of the suites; each runs the function that measures it, and only then imports networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from omote.config import Range, to_json
from omote.diffusion.settings import SamplerName
from omote.errors import ConfigError
from omote.progress import Steps
from omote.rgbd.weights import RIVALS, RIVALS_ELSEWHERE, SHIPPED_WEIGHTS, Backend, fingerprint
from omote.runs import Value
from omote.studies.base import FREE, MODEL, ModelStudy, PersonStudy, Results, Work
from omote.studies.conditions import StudyOfEdits

if TYPE_CHECKING:
    from omote.rgbd.protocol import StudiedEditor

TestSet = Literal["in-model", "cross-model", "sensor", "pose", "expressive"]
Asked = Literal["arkit", "category", "prior"]
Count = Annotated[int, Range(1)]


def row_names(runs: Sequence[Path]) -> list[str]:
    """Names of rows: those of the runs' folders.

    Raises:
        ConfigError: no runs, or two of one name.
    """
    if not runs:
        raise ConfigError("runs: expected at least one run's folder to measure; give --runs DIR ...")
    return _different("runs", [run.resolve().name for run in runs])


def scan_names(scans: Sequence[Path]) -> list[str]:
    """Names of scans: those of their files.

    Raises:
        ConfigError: no scans, or two of one name.
    """
    if not scans:
        raise ConfigError("scans: expected at least one scan; give --scans FILE ...")
    return _different("scans", [scan.resolve().stem for scan in scans])


def _different(what: str, names: list[str]) -> list[str]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{what}: expected different names, got {twice[0]} twice; rename one")
    return names


@dataclass(frozen=True, kw_only=True)
class WithNetworks(ModelStudy):
    """A study with rows of other networks.

    Attributes:
        regression: run or weights folder of the regression; the shipped one by default.
        pixel_diffusion: run or weights folder of the diffusion in pixel space; the shipped one by default.
    """

    regression: Annotated[Path | None, FREE] = None
    pixel_diffusion: Annotated[Path | None, FREE] = None

    def rivals_by_row(self) -> dict[str, Path]:
        """Folders of the rows of other networks."""
        given = {"regression": self.regression, "pixel_diffusion": self.pixel_diffusion}
        folders = {row: path or SHIPPED_WEIGHTS / RIVALS / row for row, path in given.items()}
        return {row: path for row, path in folders.items() if given[row] is not None or path.is_dir()}

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the model and the other networks."""
        return {**super().fingerprints(), **{row: fingerprint(path) for row, path in self.rivals_by_row().items()}}

    def facts(self) -> dict[str, Value]:
        """Entries of run.json."""
        return {f"run/missing_{row}": True for row in self._missing()}

    def _missing(self) -> list[str]:
        return sorted({"regression", "pixel_diffusion"} - set(self.rivals_by_row()))

    def summary(self, numbers: Mapping[str, float | int]) -> str:
        """The rows without weights, and where to get these."""
        if not (missing := self._missing()):
            return ""
        options = " and ".join(f"--{row.replace('_', '-')} DIR" for row in missing)
        return f"not measured: {', '.join(missing)}; {RIVALS_ELSEWHERE}: give {options}"

    def networks(self) -> dict[str, StudiedEditor]:
        """The other networks.

        Raises:
            CheckpointError: missing or damaged weights.
        """
        from omote.studies.networks import load_editor

        return {row: load_editor(path, self.backend) for row, path in self.rivals_by_row().items()}


@dataclass(frozen=True, kw_only=True)
class ReleaseSuite(PersonStudy, WithNetworks):
    """The release evaluation: every row on many unseen persons.

    Attributes:
        test_set: in-model: both head families, as in training; cross-model: persons of `ict` alone; sensor: captured by a
            depth camera; pose: turned by up to 30 degrees; expressive: a source that is not at rest.
        avatars: result folder of `omote evaluate avatars`, which the report begins with.
        rivals: result folder of an earlier evaluation of the same persons, whose rows without the model are copied.
        arcface: ArcFace backbone (.safetensors) as a second identity network.
        sets: whether to compare the rows as sets of images too (Fréchet and kernel distance, precision, recall); takes a
            third longer.
        best_of: number of samples per expression given the category alone, whose best is measured on the in-model set.
        best_of_persons: number of persons with several samples.
    """

    NAME = "release"

    persons: Annotated[int, Range(1), FREE] = 200
    test_set: TestSet = "in-model"
    avatars: Annotated[Path | None, FREE] = None
    rivals: Annotated[Path | None, FREE] = None
    arcface: Annotated[Path | None, FREE] = None
    sets: Annotated[bool, FREE] = False
    best_of: Count = 8
    best_of_persons: Annotated[int, Range(0)] = 40

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the measured networks, and of the second identity network."""
        arcface = (
            {} if self.arcface is None else {"arcface": hashlib.sha256(self.arcface.read_bytes()).hexdigest()[:16]}
        )
        return {**super().fingerprints(), **arcface}

    def check(self) -> None:
        """Reject impossible settings, and rows of other persons.

        Raises:
            ConfigError: no second head family, no results of avatars, or a folder ``rivals`` of other persons or rows.
            CheckpointError: ``arcface`` does not contain such a network.
        """
        from omote.evaluation.features import load_arcface
        from omote.evaluation.test_sets import population_of

        population_of(self.test_set, self.unseen())
        if self.avatars is not None and not any((self.avatars / "avatars").glob("*.json")):
            raise ConfigError(f"{self.avatars}: expected the result folder of `omote evaluate avatars`; run it first")
        if self.arcface is not None:
            load_arcface(self.arcface)
        if self.rivals is not None:
            ours = self._of_others({"weights": self.fingerprints(), "config": to_json(self)})
            try:
                theirs = self._of_others(json.loads((self.rivals / "config.json").read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError):
                raise ConfigError(
                    f"{self.rivals}: expected the result folder of an earlier release evaluation"
                ) from None
            if theirs != ours:
                raise ConfigError(f"{self.rivals}: its persons or rows are others; leave --rivals out")

    @staticmethod
    def _of_others(settings: Mapping[str, Any]) -> list[object]:
        """Settings that a folder's persons and the rows without the model depend on."""
        networks = {row: found for row, found in settings["weights"].items() if row != MODEL}
        return [networks, *(settings["config"][key] for key in ("seed", "ict", "test_set"))]

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.release import measure_release

        return measure_release(self, work)


@dataclass(frozen=True, kw_only=True)
class QuickSuite(ReleaseSuite):
    """The release suite on few persons, with sets of images, in minutes."""

    NAME = "quick"

    persons: Annotated[int, Range(1), FREE] = 10
    sets: Annotated[bool, FREE] = True
    best_of: Count = 4
    best_of_persons: Annotated[int, Range(0)] = 4


@dataclass(frozen=True, kw_only=True)
class PopulationSuite(PersonStudy):
    """Recognition of true renders by the judges, and a contact sheet of them.

    Attributes:
        persons: number of unseen persons, each shown in every category once.
    """

    NAME = "population"

    persons: Annotated[int, Range(1), FREE] = 200

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.population import measure_population

        return measure_population(self, work)


@dataclass(frozen=True, kw_only=True)
class SamplerSuite(StudyOfEdits):
    """Every sampler with several numbers of steps, SDEdit and inversion.

    Attributes:
        samplers: samplers by name.
        steps: numbers of steps of each sampler; the defaults take minutes per person.
        strengths: noise strengths of SDEdit, in (0, 1].
        inversions: numbers of steps of inversion, from the source to its noise and back.
        edit_steps: number of sampler steps of SDEdit.
        guidance_scale: guidance scale of every method; 1 means none.
    """

    NAME = "samplers"

    persons: Annotated[int, Range(1), FREE] = 200
    samplers: tuple[SamplerName, ...] = (
        "flow_euler", "flow_heun", "ddpm", "ddim", "pndm", "euler", "heun", "dpmsolver++", "unipc",
    )  # fmt: skip
    steps: tuple[Count, ...] = (1, 2, 4, 10, 25, 50, 200)
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    inversions: tuple[Count, ...] = (10, 25)
    edit_steps: Count = 10
    guidance_scale: float = 1.0

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.samplers import measure_samplers

        return measure_samplers(self, work)


@dataclass(frozen=True, kw_only=True)
class TextSuite(StudyOfEdits):
    """Expressions requested by held-out captions, against those requested by category.

    Attributes:
        persons: number of unseen persons, each with seven expressions in both languages.
    """

    NAME = "text"

    persons: Annotated[int, Range(1), FREE] = 200

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.text_prompts import measure_text

        return measure_text(self, work)


@dataclass(frozen=True, kw_only=True)
class JudgeSuite(PersonStudy):
    """Accuracy of the judges on persons and expressions, on true renders.

    Attributes:
        arcface: ArcFace backbone (.safetensors) as a second identity network.
    """

    NAME = "judges"

    persons: Annotated[int, Range(1), FREE] = 200
    arcface: Path | None = None

    def check(self) -> None:
        """Reject a wrong identity network.

        Raises:
            CheckpointError: ``arcface`` does not contain one.
        """
        from omote.evaluation.features import load_arcface

        if self.arcface is not None:
            load_arcface(self.arcface)

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.judge_check import check_judges

        return check_judges(self, work)

    def summary(self, numbers: Mapping[str, float | int]) -> str:
        """The judges' table."""
        from omote.studies.judge_check import table_rows

        return "\n".join("  ".join(line) for line in table_rows(numbers))


@dataclass(frozen=True, kw_only=True)
class RunsSuite(PersonStudy):
    """A comparison of several networks.

    Attributes:
        runs: runs or weights folders; rows are named after them.
    """

    runs: Annotated[tuple[Path, ...], FREE]

    def check(self) -> None:
        """Reject rows of the same name.

        Raises:
            ConfigError: no runs, or two of one name.
        """
        row_names(self.runs)


@dataclass(frozen=True, kw_only=True)
class FirstStageSuite(RunsSuite):
    """Reconstruction errors of autoencoders, a row each.

    Attributes:
        perceptual: weights file of a second perceptual distance (docs/studies.md).
    """

    NAME = "first-stage"

    # A row is a mean over all of its persons.
    persons: Annotated[int, Range(1)] = 200
    perceptual: Path | None = None

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.first_stage import measure_first_stages

        return measure_first_stages(self, work)


@dataclass(frozen=True, kw_only=True)
class EditorSuite(RunsSuite):
    """Editors against the first of them, with several numbers of steps, given weights or a category alone.

    Attributes:
        backend: library that runs the networks.
        conditions: conditions: the true weights, category and intensity alone, or weights that the prior draws for these.
        steps: numbers of steps of each editor.
        samples: number of samples per expression where several answers are right.
        guidance_scale: guidance scale of editors without distilled guidance; 1 means none.
    """

    NAME = "editors"

    persons: Annotated[int, Range(1), FREE] = 200
    backend: Backend = "auto"
    conditions: tuple[Asked, ...] = ("arkit", "category", "prior")
    steps: tuple[Count, ...] = (50, 4, 2, 1)
    samples: Count = 8
    guidance_scale: float = 1.0

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the editors."""
        return {name: fingerprint(run) for name, run in zip(row_names(self.runs), self.runs, strict=True)}

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.editors import measure_editors

        return measure_editors(self, work)


@dataclass(frozen=True, kw_only=True)
class ScanSuite(WithNetworks):
    """Real scans, without ground truth: fit, identity and recognised expression of every row.

    Attributes:
        scans: scans in any format that `omote avatar` reads.
        seed: seed of the noise.
    """

    NAME = "scans"

    scans: tuple[Path, ...]
    seed: int = 0

    def check(self) -> None:
        """Reject scans of the same name.

        Raises:
            ConfigError: no scans, or two of one name.
        """
        scan_names(self.scans)

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.real_scans import measure_scans

        return measure_scans(self, work)

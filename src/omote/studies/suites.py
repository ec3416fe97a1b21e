"""The suites' options; each runs the function that measures it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from omote.config import Range, to_json
from omote.diffusion.settings import EditSettings, SamplerName
from omote.errors import ConfigError
from omote.progress import Step, Steps
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, Backend, fingerprint
from omote.runs import Value
from omote.studies.base import FREE, MODEL, ModelStudy, PersonStudy, Results, Work
from omote.studies.conditions import StudyOfEdits

if TYPE_CHECKING:
    from omote.datasets.population import PopulationConfig
    from omote.evaluation.measure import EvaluationStep

TestSet = Literal["in-model", "cross-model", "sensor", "pose", "expressive"]
Asked = Literal["arkit", "category", "prior"]
Count = Annotated[int, Range(1)]


def measured(steps: Iterator[EvaluationStep], work: Work, **more: Any) -> Steps[Results]:
    """Run a suite to its end and read what it wrote."""
    for step in steps:
        work.made += 1
        yield Step(stage="measure", done=step.done, total=step.total)
    return Results(numbers=json.loads((work.out / "metrics.json").read_text()), **more)


def plain(study: PersonStudy) -> PopulationConfig:
    """The persons as the suites have them: each draws its own expressions."""
    from omote.datasets.population import PopulationConfig

    return PopulationConfig(seed=study.seed, split="test", ict=study.ict)


def row_names(runs: tuple[Path, ...]) -> list[str]:
    """A row is named after its run's folder."""
    names = [run.resolve().name for run in runs]
    if not runs:
        raise ConfigError("runs: expected at least one run's folder to measure; give --runs DIR ...")
    if len(set(names)) < len(names):
        raise ConfigError(f"runs: expected folders of different names, got {', '.join(names)}")
    return names


@dataclass(frozen=True, kw_only=True)
class WithNetworks(ModelStudy):
    """With rows of other networks.

    Attributes:
        regression: a run or weights folder for the row of that name; the shipped one by default.
        pixel_diffusion: a run or weights folder for the row of that name; the shipped one by default.
    """

    regression: Annotated[Path | None, FREE] = None
    pixel_diffusion: Annotated[Path | None, FREE] = None

    def rivals_by_row(self) -> dict[str, Path]:
        """Folders of the rows of other networks."""
        given = {"regression": self.regression, "pixel_diffusion": self.pixel_diffusion}
        folders = {row: path or SHIPPED_WEIGHTS / RIVALS / row for row, path in given.items()}
        return {row: path for row, path in folders.items() if given[row] is not None or path.is_dir()}

    def fingerprints(self) -> Mapping[str, str]:
        """Of the model and of the other networks."""
        return {**super().fingerprints(), **{row: fingerprint(path) for row, path in self.rivals_by_row().items()}}

    def facts(self) -> dict[str, Value]:
        """For run.json."""
        given = self.fingerprints()
        missing = [row for row in ("regression", "pixel_diffusion") if row not in given]
        return {"run/weights": given["model"], **{f"run/missing_{row}": True for row in missing}}

    def networks(self) -> dict[str, Any]:
        """The other networks."""
        from omote.studies.editors import load_editor

        return {row: load_editor(path, self.backend) for row, path in self.rivals_by_row().items()}


@dataclass(frozen=True, kw_only=True)
class QuickSuite(PersonStudy, WithNetworks):
    """The release suite on few persons, rows compared as sets of images too, in minutes.

    Attributes:
        persons: unseen, each with seven expressions.
        test_set: in-model: both heads, as training draws them; cross-model: of `ict` alone; sensor: seen by a depth camera; pose:
            turned by up to 30 degrees; expressive: the source is not at rest.
        rivals: results of an earlier run on the same persons, whose rows without networks are taken over.
        arcface: an ArcFace backbone (.safetensors) as a second identity network.
    """

    NAME = "quick"

    persons: Annotated[int, Range(1), FREE] = 10
    test_set: TestSet = "in-model"
    rivals: Annotated[Path | None, FREE] = None
    arcface: Path | None = None

    def config(self) -> Any:
        """The suite's old config."""
        from omote.studies.release import ReleaseConfig

        config = ReleaseConfig(
            population=plain(self),
            test_set=self.test_set,
            num_persons=self.persons,
            settings=EditSettings(seed=self.seed),
        )
        if self.test_set != "in-model":
            # How wide the model draws is no matter of how a source is captured, and takes longer than all else.
            return replace(config, num_best_of=0)
        return replace(config, best_of=4, num_best_of=4) if self.NAME == "quick" else config

    def check(self) -> None:
        """Refuse what cannot be measured."""
        from omote.evaluation.features import load_arcface
        from omote.evaluation.testsets import population_of

        population_of(self.test_set, self.config().population)
        if self.arcface is not None:
            load_arcface(self.arcface)
        if self.rivals is not None:
            try:
                theirs = json.loads((self.rivals / "config.json").read_text(encoding="utf-8"))
                same = self._of_others(theirs) == self._of_others(
                    {"weights": self.fingerprints(), "config": to_json(self)}
                )
            except (OSError, ValueError, KeyError, TypeError):
                raise ConfigError(
                    f"{self.rivals}: expected the result folder of an earlier release evaluation"
                ) from None
            if not same:
                raise ConfigError(f"{self.rivals}: its persons or rows are others; leave --rivals out")

    @staticmethod
    def _of_others(settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a folder's persons and the rows of others depend on."""
        networks = {row: found for row, found in settings["weights"].items() if row != MODEL}
        return {
            "networks": networks,
            **{key: settings["config"][key] for key in ("seed", "ict", "test_set", "arcface")},
        }

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.evaluation.features import load_arcface
        from omote.evaluation.report import load_results, write_report
        from omote.evaluation.sets import load_set_networks
        from omote.studies.release import evaluate_release

        yield Step(stage="load")
        steps = evaluate_release(
            self.model(),
            self.config(),
            work.out,
            rivals=None if self.rivals is None else self.rivals / "rivals",
            sets=load_set_networks() if getattr(self, "sets", True) else None,
            networks=self.networks(),
            second_identity=None if self.arcface is None else load_arcface(self.arcface),
        )
        return (
            yield from measured(
                steps,
                work,
                facts={**self.facts(), "seed/persons": self.seed},
                page=lambda out: write_report(load_results(out)),
            )
        )


@dataclass(frozen=True, kw_only=True)
class ReleaseSuite(QuickSuite):
    """What a release must show: every row on many unseen persons.

    Attributes:
        persons: unseen, each with seven expressions.
        sets: compare the rows as sets of images too (Fréchet and kernel distance, precision, recall); a third longer.
    """

    NAME = "release"

    persons: Annotated[int, Range(1), FREE] = 200
    sets: Annotated[bool, FREE] = False


@dataclass(frozen=True, kw_only=True)
class PopulationSuite(PersonStudy):
    """Whether true renders are recognised, and a sheet of them."""

    NAME = "population"

    persons: Annotated[int, Range(1)] = 200

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies import ground_truth

        config = ground_truth.PopulationSuite(population=plain(self), num_persons=self.persons)
        return (yield from measured(ground_truth.evaluate_population(config, work.out), work))


@dataclass(frozen=True, kw_only=True)
class SamplerSuite(StudyOfEdits):
    """Every sampler at several numbers of steps, SDEdit and inversion.

    Attributes:
        persons: unseen, each with seven expressions.
        samplers: by name.
        steps: of each sampler; all of the defaults take minutes per person.
        strengths: of SDEdit.
        inversions: numbers of steps that carry the source to its own noise, and back.
        edit_steps: of SDEdit.
        guidance_scale: of all.
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
        from omote.studies.samplers import SamplerSurvey, survey_samplers

        yield Step(stage="load")
        survey = SamplerSurvey(
            population=plain(self),
            num_persons=self.persons,
            samplers=self.samplers,
            steps=self.steps,
            strengths=self.strengths,
            inversions=self.inversions,
            edit_steps=self.edit_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
        )
        return (yield from measured(survey_samplers(self.model(), survey, work.out), work))


@dataclass(frozen=True, kw_only=True)
class TextSuite(StudyOfEdits):
    """Expressions asked for in held-out words, against those asked for by category.

    Attributes:
        persons: unseen, each with seven expressions, in both languages.
    """

    NAME = "text"

    persons: Annotated[int, Range(1), FREE] = 200

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies import text_prompts

        yield Step(stage="load")
        config = text_prompts.TextSuite(
            population=plain(self), num_persons=self.persons, settings=EditSettings(seed=self.seed)
        )
        return (yield from measured(text_prompts.evaluate_text(self.model(), config, work.out), work))


@dataclass(frozen=True, kw_only=True)
class JudgeSuite(PersonStudy):
    """Whether the judges tell persons and expressions apart, on true renders.

    Attributes:
        persons: unseen, each with seven expressions.
        arcface: an ArcFace backbone (.safetensors) as a second identity network.
    """

    NAME = "judges"

    persons: Annotated[int, Range(1), FREE] = 200
    arcface: Path | None = None

    def check(self) -> None:
        """Refuse a wrong identity network."""
        from omote.evaluation.features import load_arcface

        if self.arcface is not None:
            load_arcface(self.arcface)

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies.judge_check import JudgeCheck, check_judges
        from omote.studies.judge_page import write_judge_report

        def page(out: Path) -> None:
            metrics, run = (json.loads((out / name).read_text()) for name in ("metrics.json", "run.json"))
            write_judge_report(metrics, run, out / "report.html")

        config = JudgeCheck(population=plain(self), num_persons=self.persons, arcface=self.arcface)
        return (yield from measured(check_judges(config, work.out), work, page=page))

    def summary(self, numbers: Mapping[str, Value]) -> str:
        """The judges' table."""
        from omote.studies.judge_check import table_rows

        return "\n".join("  ".join(line) for line in table_rows(numbers))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class FirstStageSuite(PersonStudy):
    """What autoencoders lose, a row each.

    Attributes:
        persons: unseen, each with seven expressions.
        runs: runs or weights folders; rows are named after them.
        perceptual: the weights file of a second perceptual distance (docs/studies.md).
    """

    NAME = "first-stage"

    persons: Annotated[int, Range(1)] = 200
    runs: Annotated[tuple[Path, ...], FREE]
    perceptual: Path | None = None

    def check(self) -> None:
        """Refuse rows of one name."""
        row_names(self.runs)

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies import first_stage

        config = first_stage.FirstStageSuite(
            population=plain(self), num_persons=self.persons, perceptual=self.perceptual
        )
        return (yield from measured(first_stage.evaluate_first_stages(self.runs, config, work.out), work))


@dataclass(frozen=True, kw_only=True)
class EditorSuite(PersonStudy):
    """Editors against the first of them, at several numbers of steps, given weights or a category alone.

    Attributes:
        persons: unseen, each with seven expressions.
        backend: what runs the networks.
        runs: runs or weights folders; rows are named after them.
        conditions: what is asked for: the truth's weights, category and intensity alone, or weights drawn for these.
        steps: numbers of steps of each editor.
        samples: per expression where many answers are right.
        guidance_scale: of editors that have none folded in.
    """

    NAME = "editors"

    persons: Annotated[int, Range(1), FREE] = 200
    backend: Backend = "auto"
    runs: Annotated[tuple[Path, ...], FREE]
    conditions: tuple[Asked, ...] = ("arkit", "category", "prior")
    steps: tuple[Count, ...] = (50, 4, 2, 1)
    samples: Count = 8
    guidance_scale: float = 1.0

    def check(self) -> None:
        """Refuse rows of one name."""
        row_names(self.runs)

    def fingerprints(self) -> Mapping[str, str]:
        """Of the editors."""
        return {name: fingerprint(run) for name, run in zip(row_names(self.runs), self.runs, strict=True)}

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies import editors

        yield Step(stage="load")
        models = {
            name: editors.load_editor(run, self.backend)
            for name, run in zip(row_names(self.runs), self.runs, strict=True)
        }
        config = editors.EditorSuite(
            population=plain(self),
            num_persons=self.persons,
            conditions=self.conditions,
            steps=self.steps,
            samples=self.samples,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
        )
        return (yield from measured(editors.evaluate_editors(models, config, work.out), work))


@dataclass(frozen=True, kw_only=True)
class ScanSuite(WithNetworks):
    """Real scans, whose truth is unknown: fit, identity and asked expression of every row.

    Attributes:
        scans: in any format that `omote avatar` reads.
        seed: of noise.
    """

    NAME = "scans"

    scans: tuple[Path, ...]
    seed: int = 0

    def check(self) -> None:
        """Refuse scans of one name."""
        from omote.studies import real_scans

        real_scans.ScanSuite(scans=self.scans).names()

    def run(self, work: Work) -> Steps[Results]:
        """Measure."""
        from omote.studies import real_scans
        from omote.studies.real_scans_page import write_scan_report

        def page(out: Path) -> None:
            metrics, run = (json.loads((out / name).read_text()) for name in ("metrics.json", "run.json"))
            write_scan_report(out, metrics, run)

        yield Step(stage="load")
        config = real_scans.ScanSuite(scans=self.scans, settings=EditSettings(seed=self.seed))
        steps = real_scans.evaluate_scans(self.model(), config, work.out, networks=self.networks())
        return (yield from measured(steps, work, facts=self.facts(), page=page))

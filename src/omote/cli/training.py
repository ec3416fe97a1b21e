"""Commands for data, training and results: each is a frozen dataclass whose fields are options and whose call does the work."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

from omote import api
from omote.api.images import GenerateSettings
from omote.api.populations import PopulationSettings
from omote.api.tools import LandmarkSettings, SourceExpressionSettings, UnitStyleSettings
from omote.cli.display import Display
from omote.config import dumps
from omote.datasets.layouts.registry import LayoutName
from omote.datasets.layouts.report import note_lines
from omote.errors import OmoteError
from omote.shards.mapping import Execution
from omote.types import Unit

Folder = Annotated[Path, arg(metavar="DIR")]
InFolder = Annotated[Positional[Path], arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class PopulationCommand:
    """Render synthetic persons.

    Person i of a split is the same for the same seed, on any machine. Shards that already exist in DIR are kept, so the same
    command resumes after an interrupt.

    Attributes:
        out: folder of the shards; made if missing.
        sheet: path of a contact sheet: seven expressions of twelve persons.
    """

    out: Folder
    sheet: Annotated[Path | None, arg(metavar="FILE.png", help_behavior_hint="")] = None
    settings: OmitArgPrefixes[PopulationSettings] = PopulationSettings()
    execution: OmitArgPrefixes[Execution] = Execution()

    def __call__(self) -> None:
        with Display() as display:
            count = api.population(self.out, self.settings, sheet=self.sheet, execution=self.execution, on_step=display)
        print(f"{self.out}: {count:,} persons, {count * self.settings.images:,} images")


@dataclass(frozen=True, kw_only=True)
class _OfDataset:
    """A command for a dataset of scans.

    Attributes:
        folder: folder of the dataset.
        layout: layout of the folder.
        seed: seed of the splits: a tenth of the subjects each for validation and test.
    """

    folder: InFolder
    layout: LayoutName = "auto"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CheckDataCommand(_OfDataset):
    """Report the contents of a dataset of scans, its problems, and the scans that will be used.

    Layouts and labels: docs/datasets.md.

    Attributes:
        quick: check names only, without opening every scan.
        report: path of a JSON report with all counts and problems.
    """

    quick: bool = False
    report: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None

    def __call__(self) -> None:
        with Display() as display:
            report = api.data(
                self.folder,
                layout=self.layout,
                seed=self.seed,
                quick=self.quick,
                report=self.report,
                on_step=display,
            )
        print(report.text())


@dataclass(frozen=True, kw_only=True)
class RenderDataCommand(_OfDataset):
    """Align every scan of a dataset and write a shard per subject, for recipes of `omote train` to use as a population.

    Scans that cannot be used are skipped and counted; the same command resumes after an interrupt.

    Attributes:
        out: folder of the shards; made if missing.
        split: split of the subjects; splits have no subject in common.
        size: side of the images in pixels.
        unit: unit of the scans' coordinates; "auto" estimates it.
    """

    out: Folder
    split: Literal["train", "validation", "test", "all"] = "train"
    size: int = 128
    unit: Unit = "auto"
    execution: OmitArgPrefixes[Execution] = Execution(workers=1)

    def __call__(self) -> None:
        with Display() as display:
            made = api.render_dataset(
                self.folder,
                self.out,
                layout=self.layout,
                split=self.split,
                seed=self.seed,
                size=self.size,
                unit=self.unit,
                execution=self.execution,
                on_step=display,
            )
        for line in note_lines(made.notes, self.folder):
            print(f"note: {line}", file=sys.stderr)
        for problem in made.problems:
            print(f"skipped {problem.path}: {problem.reason}", file=sys.stderr)
        doubtful = f", {made.num_doubtful:,} with a doubtful pose" if made.num_doubtful else ""
        given_up = f", {made.num_given_up:,} subjects without a usable neutral scan" if made.num_given_up else ""
        print(
            f"{self.out}: {made.num_subjects:,} subjects, {made.num_images:,} images{doubtful}; "
            f"{len(made.problems):,} problems{given_up}"
        )


@dataclass(frozen=True, kw_only=True)
class PackDataCommand:
    """Open every image of a folder and pack them for recipes of images.

    Images are jpg, png or webp files; subfolders are classes; captions are in name.txt or metadata.jsonl.

    Attributes:
        folder: folder of the images.
        out: folder of the packed images; made if missing.
        size: length of the shorter side in pixels.
    """

    folder: InFolder
    out: Folder
    size: int = 256

    def __call__(self) -> None:
        with Display() as display:
            count = api.pack(self.folder, self.out, size=self.size, on_step=display)
        print(f"{self.out}: {count:,} images")


DataCommand = (
    Annotated[CheckDataCommand, subcommand("check")]
    | Annotated[RenderDataCommand, subcommand("render")]
    | Annotated[PackDataCommand, subcommand("pack")]
)


@dataclass(frozen=True, kw_only=True)
class EncodeCommand:
    """Encode a population's latent pairs once, to train editors on.

    A recipe then reads them with `--set latents=DIR` instead of drawing and encoding pairs in every step. Existing shards are
    kept, so the same command resumes after an interrupt.

    Attributes:
        population: folder written by `omote population`.
        out: folder of the latent pairs; made if missing.
        autoencoder: folder of an exported first stage, instead of the shipped one; views need one.
        encoder: for views, folder of an exported 3D encoder that gives the source's latents (candidate 2).
        variants: captures per person, each with its own light, noise, holes and crop; 1 for views.
        seed: seed of all random choices.
    """

    population: Annotated[Positional[Path], arg(metavar="SHARDS")]
    out: Folder
    autoencoder: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    encoder: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    variants: int = 1
    seed: int = 0

    def __call__(self) -> None:
        with Display() as display:
            count = api.encode(**vars(self), on_step=display)
        print(f"{self.out}: {count:,} edits")


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a recipe.

    A recipe is a complete config; DIR/config.json records it, and DIR/export contains the averaged weights. Runs that depend on
    each other must lie side by side. The same command resumes a run.

    Attributes:
        recipe: name of the recipe; an unknown name lists them all.
        run: folder of the run; made if missing.
        set: changes of single values, such as engine.batch_size=8.
        allow_pipe: run the commands (pipe:...) in a population's list of URLs; only for lists that you trust.
        dry_run: print the resolved config, parameter counts, and the time and memory measured in a few steps; write nothing.
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    run: Folder
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")] = ()
    allow_pipe: bool = False
    dry_run: bool = False

    def __call__(self) -> None:
        changes = (*self.set, *(["allow_pipe=true"] if self.allow_pipe else []))
        config = api.recipe(self.recipe, run=self.run, changes=changes)
        if self.dry_run:
            print(dumps(config), end="")
            print(_measured(config), file=sys.stderr)
            return
        # Only one process prints: the only one, or the first one started by ``accelerate launch``.
        first = os.environ.get("RANK", "0") == "0"
        with Display() as display:
            last = api.train(config, run=self.run, on_step=display if first else None)

        from omote.engine.loop import leave_group

        leave_group()
        if first:
            print(f"{self.run}: {last}")


def _measured(config: object) -> str:
    """Estimates for the whole run from a few steps, or the reason why there are none; the config is printed either way."""
    try:
        measured = api.estimate_training(config)
    except OmoteError as error:
        known = api.count_parameters(config)
        return (f"{known:,} parameters; " if known else "") + f"time and memory not measured: {error}"
    return (
        f"{measured['parameters']:,.0f} parameters ({measured['frozen_parameters']:,.0f} frozen beside them); "
        f"{measured['gflop_per_image']:,.1f} GFLOP per image; "
        f"{measured['images_per_s']:.1f} images/s here in {measured['precision']} {measured['memory_layout']}: "
        f"{measured['hours']:.1f} h in all, {measured['memory_mb']:.0f} MB"
    )


@dataclass(frozen=True, kw_only=True)
class GenerateCommand:
    """Sample new images from a run of an image generator.

    The run must be one of a recipe `generator-...` (docs/training.md). Image i is a function of the run and SEED + i.

    Attributes:
        run: folder of the run.
        out: folder of the PNG files; made if missing.
    """

    run: Folder
    out: Folder
    settings: OmitArgPrefixes[GenerateSettings] = GenerateSettings()

    def __call__(self) -> None:
        with Display() as display:
            made = api.generate(self.run, self.out, self.settings, on_step=display)
        print(f"{self.out}: {len(made):,} images")


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Compare result folders of `omote evaluate release` on one page.

    One folder gives its own report. Several are compared with intervals and tested against the first, paired by person.

    Attributes:
        folders: finished result folders; the others are compared with the first one.
        out: path of the self-contained page.
    """

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR...")]
    out: Annotated[Path, arg(metavar="FILE.html")]

    def __call__(self) -> None:
        with Display() as display:
            path = api.report(self.folders, out=self.out, on_step=display)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True, kw_only=True)
class LandmarksCommand(LandmarkSettings):
    """Train the face finder and the landmark network on simulated scans, about twenty minutes on one core."""

    def __call__(self) -> None:
        with Display() as display:
            print(api.tool(self, on_step=display))


@dataclass(frozen=True, kw_only=True)
class UnitStyleCommand(UnitStyleSettings):
    """Learn the second style of expression units from a population of both head families, about ten minutes on one core."""

    def __call__(self) -> None:
        with Display() as display:
            print(api.tool(self, on_step=display))


@dataclass(frozen=True, kw_only=True)
class SourceExpressionCommand(SourceExpressionSettings):
    """Train the network that finds the expression in a scan, about six minutes on one core."""

    def __call__(self) -> None:
        with Display() as display:
            print(api.tool(self, on_step=display))


ToolCommand = (
    Annotated[LandmarksCommand, subcommand("landmarks")]
    | Annotated[UnitStyleCommand, subcommand("unit-style")]
    | Annotated[SourceExpressionCommand, subcommand("source-expression")]
)


@dataclass(frozen=True, kw_only=True)
class InfoCommand:
    """Show installed versions, weights and judges.

    The output is useful in a bug report.

    Attributes:
        json: print JSON instead of text.
    """

    json: bool = False

    def __call__(self) -> None:
        facts = api.info()
        width = max(map(len, facts))
        print(json.dumps(facts, indent=2) if self.json else "\n".join(f"{key:<{width}}  {facts[key]}" for key in facts))

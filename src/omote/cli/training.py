"""Commands of data, training and results: a frozen dataclass each, whose fields are the options and whose call does the work."""

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
from omote.api.tools import LandmarkSettings, UnitStyleSettings
from omote.cli.display import Display
from omote.config import dumps
from omote.datasets.layouts.registry import LayoutName
from omote.datasets.layouts.report import note_lines
from omote.errors import OmoteError
from omote.types import Unit

Folder = Annotated[Path, arg(metavar="DIR")]
InFolder = Annotated[Positional[Path], arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class PopulationCommand:
    """Render synthetic persons.

    Person i of a split is the same for the same seed, on any machine. Shards that are in DIR already are kept, so the
    same command goes on after an interrupt.

    Attributes:
        out: folder of the shards; made if missing.
        sheet: a contact sheet: seven expressions of twelve persons.
    """

    out: Folder
    sheet: Annotated[Path | None, arg(metavar="FILE.png", help_behavior_hint="")] = None
    settings: OmitArgPrefixes[PopulationSettings] = PopulationSettings()

    def __call__(self) -> None:
        with Display() as display:
            count = api.population(self.out, self.settings, sheet=self.sheet, on_step=display)
        print(f"{self.out}: {count:,} persons, {count * self.settings.images:,} images")


@dataclass(frozen=True, kw_only=True)
class _OfDataset:
    """A command of a dataset of scans.

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
        quick: go by names, without opening every scan.
        report: everything counted and every problem.
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
    """Align every scan of a dataset and write a shard per subject, which recipes of `omote train` take as their population.

    Scans that cannot be used are skipped and counted; the same command goes on after an interrupt.

    Attributes:
        out: folder of the shards; made if missing.
        split: split of the subjects; splits never share one.
        size: pixels of a side.
        unit: unit of the scans' coordinates; "auto" estimates it.
        workers: processes.
    """

    out: Folder
    split: Literal["train", "validation", "test", "all"] = "train"
    size: int = 128
    unit: Unit = "auto"
    workers: int = 1

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
                workers=self.workers,
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
    """Open every image of a folder and write what recipes of images read.

    Images are jpg, png or webp; subfolders are classes; captions are in name.txt or metadata.jsonl.

    Attributes:
        folder: folder of the images.
        out: folder of the packed images; made if missing.
        size: pixels of the shorter side.
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
    """Encode a population's edits once, for editors to train on.

    A recipe then reads them with `--set latents=DIR` instead of drawing and encoding pairs at every step. Shards that are
    there are kept, so the same command goes on after an interrupt.

    Attributes:
        population: folder of `omote population`.
        out: folder of the edits; made if missing.
        autoencoder: an exported first stage, instead of the shipped one.
        variants: captures per person, each with light, noise, holes and crop of its own.
        seed: seed of everything drawn.
    """

    population: Annotated[Positional[Path], arg(metavar="SHARDS")]
    out: Folder
    autoencoder: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    variants: int = 1
    seed: int = 0

    def __call__(self) -> None:
        with Display() as display:
            count = api.encode(**vars(self), on_step=display)
        print(f"{self.out}: {count:,} edits")


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a recipe.

    A recipe is a complete config; DIR/config.json records it, DIR/export holds the averaged weights. Runs that build on
    each other lie side by side. The same command resumes a run.

    Attributes:
        recipe: its name; a wrong one lists them all.
        run: folder of the run; made if missing.
        set: change single values, such as engine.batch_size=8.
        allow_pipe: run the commands (pipe:...) that a population's file of URLs lists; only for a file that you trust.
        dry_run: print the resolved config, parameter counts, and time and memory as a few steps in memory measure them; write
            nothing.
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
        # Only one process speaks: the only one, or the first that ``accelerate launch`` started.
        first = os.environ.get("RANK", "0") == "0"
        with Display() as display:
            last = api.train(config, run=self.run, on_step=display if first else None)
        if first:
            print(f"{self.run}: {last}")


def _measured(config: object) -> str:
    """What a few steps say of the whole run, or why none could be taken; the config is worth reading either way."""
    try:
        measured = api.estimate_training(config)
    except OmoteError as error:
        known = api.count_parameters(config)
        return (f"{known:,} parameters; " if known else "") + f"time and memory not measured: {error}"
    return (
        f"{measured['parameters']:,.0f} parameters ({measured['frozen_parameters']:,.0f} frozen beside them); "
        f"{measured['images_per_s']:.1f} images/s here in {measured['precision']} {measured['memory_layout']}: "
        f"{measured['hours']:.1f} h in all, {measured['memory_mb']:.0f} MB"
    )


@dataclass(frozen=True, kw_only=True)
class GenerateCommand:
    """Sample new images from a run of an image generator.

    The run is one of a recipe `generator-...` (docs/training.md). Image i is a function of the run and SEED + i.

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
        folders: finished result folders; the first is what the others are compared with.
        out: the page; it needs nothing beside itself.
    """

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR...")]
    out: Annotated[Path, arg(metavar="FILE.html")]

    def __call__(self) -> None:
        path = api.report(self.folders, out=self.out)
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


ToolCommand = (
    Annotated[LandmarksCommand, subcommand("landmarks")] | Annotated[UnitStyleCommand, subcommand("unit-style")]
)


@dataclass(frozen=True, kw_only=True)
class InfoCommand:
    """Show what is installed.

    Good to paste into a bug report.

    Attributes:
        json: print JSON.
    """

    json: bool = False

    def __call__(self) -> None:
        facts = api.info()
        width = max(map(len, facts))
        print(json.dumps(facts, indent=2) if self.json else "\n".join(f"{key:<{width}}  {facts[key]}" for key in facts))

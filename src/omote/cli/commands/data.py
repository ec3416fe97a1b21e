"""``omote data``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from omote.cli import flags
from omote.types import Unit

Action = Literal["check", "render", "pack"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Check or render a dataset of scans, or pack a folder of images.

    `check` reports the contents, the problems and the scans that will be used. `render` aligns every scan and writes a shard per
    subject, which recipes of `omote train` take as their population; scans that cannot be used are skipped and counted, and
    the same command goes on after an interrupt. Layouts and labels: docs/datasets.md. `pack` opens every image of a folder
    (jpg, png, webp; subfolders are classes; captions in name.txt or metadata.jsonl) and writes what recipes of images read.
    """

    action: Annotated[tyro.conf.Positional[Action], tyro.conf.arg(metavar="check|render|pack")]
    """what to do"""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """the dataset"""
    layout: Literal["auto", "generic", "facescape", "bu3dfe", "coma", "headspace", "florence4d"] = "auto"
    """how it lies on disk"""
    seed: int = 0
    """of the splits: a tenth of the subjects each for validation and test"""
    quick: bool = False
    """check: go by names, without opening every scan"""
    report: flags.JsonFile = None
    """check: everything counted and every problem"""
    out: flags.Folder = None
    """render: folder of the shards; pack: of the packed images; made if missing"""
    split: Literal["train", "validation", "test", "all"] = "train"
    """render: split of the subjects; splits never share one"""
    size: int = 0
    """pixels of a side; 0 is 128 to render, 256 to pack"""
    unit: Unit = "auto"
    """render: of the scans' coordinates, if you know it"""
    workers: int = 1
    """render: processes"""


def run(options: Options) -> None:
    """Check, render or pack, and report."""
    from omote import api
    from omote.cli.display import Display
    from omote.errors import ConfigError

    if options.action == "check":
        with Display() as display:
            report = api.data(
                options.folder,
                layout=options.layout,
                seed=options.seed,
                quick=options.quick,
                report=options.report,
                on_step=display,
            )
        print(report.text())
        return
    if options.out is None:
        raise ConfigError(f"data {options.action}: expected --out DIR, the folder to write, got none")
    if options.action == "pack":
        with Display() as display:
            count = api.pack(options.folder, options.out, size=options.size or 256, on_step=display)
        print(f"{options.out}: {count:,} images")
        return
    with Display() as display:
        made = api.render_dataset(
            options.folder,
            options.out,
            layout=options.layout,
            split=options.split,
            seed=options.seed,
            size=options.size or 128,
            unit=options.unit,
            workers=options.workers,
            on_step=display,
        )
    for problem in made.problems:
        print(f"skipped {problem.path}: {problem.reason}", file=sys.stderr)
    doubtful = f", {made.num_doubtful:,} with a doubtful pose" if made.num_doubtful else ""
    given_up = f", {made.num_given_up:,} subjects without a usable neutral scan" if made.num_given_up else ""
    print(
        f"{options.out}: {made.num_subjects:,} subjects, {made.num_images:,} images{doubtful}; "
        f"{len(made.problems):,} problems{given_up}"
    )

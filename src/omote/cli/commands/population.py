"""``omote population``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Render made-up persons.

    Person i of a split is the same for the same seed, on any machine. Shards that are in DIR already are kept, so the
    same command goes on after an interrupt.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the shards; made if missing"""
    persons: int = 100
    """how many"""
    images: int = 8
    """of each person; the first at rest"""
    size: int = 128
    """pixels of a side"""
    seed: int = 0
    """of everything drawn"""
    split: Literal["train", "validation", "test", "tuning"] = "train"
    """which persons; splits never share one"""
    ict: flags.File = None
    """an ICT-FaceKit checkout or .npz: half of the persons come from it"""
    workers: int = 0
    """processes; 0 means one per core"""
    format: Literal["npy", "webdataset"] = "npy"
    """of the shards: files that map into memory, or tars for what is larger than a disk (docs/training.md)"""
    sheet: flags.PngFile = None
    """a contact sheet: seven expressions of twelve persons"""


def run(options: Options) -> None:
    """Render and say how many."""
    from omote import api
    from omote.cli.display import Display

    with Display() as display:
        count = api.population(
            options.out,
            persons=options.persons,
            images=options.images,
            size=options.size,
            seed=options.seed,
            split=options.split,
            ict=options.ict,
            workers=options.workers,
            sheet=options.sheet,
            format=options.format,
            on_step=display,
        )
    print(f"{options.out}: {count:,} persons, {count * options.images:,} images")

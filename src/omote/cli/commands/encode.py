"""``omote encode``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Encode a population's edits once, for editors to train on.

    A recipe then reads them with `--set latents=DIR` instead of drawing and encoding pairs at every step. Shards that are
    there are kept, so the same command goes on after an interrupt.
    """

    population: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SHARDS")]
    """folder of `omote population`"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the edits; made if missing"""
    autoencoder: flags.Folder = None
    """an exported first stage, instead of the shipped one"""
    variants: int = 1
    """captures per person, each with light, noise, holes and crop of its own"""
    seed: int = 0
    """of everything drawn"""


def run(options: Options) -> None:
    """Encode and say how much."""
    from omote import api
    from omote.cli.display import Display

    with Display() as display:
        count = api.encode(
            options.population,
            out=options.out,
            autoencoder=options.autoencoder,
            variants=options.variants,
            seed=options.seed,
            on_step=display,
        )
    print(f"{options.out}: {count:,} edits")

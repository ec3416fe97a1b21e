"""``omote train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train a recipe.

    A recipe is a complete config; DIR/config.json records it, DIR/export holds the averaged weights. Runs that build on
    each other lie side by side. The same command resumes a run.
    """

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")]
    """its name; a wrong one lists them all"""
    run: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the run; made if missing"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """change single values, such as engine.batch_size=8"""
    dry_run: bool = False
    """print the resolved config and stop"""


def run(options: Options) -> None:
    """Train to the end of the recipe."""
    from omote import api
    from omote.cli.display import Display
    from omote.config import dumps

    config = api.recipe(options.recipe, run=options.run, changes=options.set)
    if options.dry_run:
        print(dumps(config), end="")
        return
    with Display() as display:
        last = api.train(config, run=options.run, on_step=display)
    print(f"{options.run}: {last}")

"""``omote train``."""

from __future__ import annotations

import os
import sys
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
    allow_pipe: bool = False
    """run the commands (pipe:...) that a population's file of URLs lists; only for a file that you trust"""
    dry_run: bool = False
    """print the resolved config, parameter counts, and time and memory as a few steps in memory measure them; write nothing"""


def run(options: Options) -> None:
    """Train to the end of the recipe."""
    from omote import api
    from omote.cli.display import Display
    from omote.config import dumps

    changes = (*options.set, *(["allow_pipe=true"] if options.allow_pipe else []))
    config = api.recipe(options.recipe, run=options.run, changes=changes)
    if options.dry_run:
        print(dumps(config), end="")
        print(_measured(config), file=sys.stderr)
        return
    with Display() as display:
        last = api.train(config, run=options.run, on_step=display if _is_first_process() else None)
    if _is_first_process():
        print(f"{options.run}: {last}")


def _is_first_process() -> bool:
    """Whether this one speaks: the only one, or the first that ``accelerate launch`` started."""
    return os.environ.get("RANK", "0") == "0"


def _measured(config: object) -> str:
    """What a few steps say of the whole run, or why none could be taken; the config is worth reading either way."""
    from omote import api
    from omote.errors import OmoteError

    try:
        measured = api.estimate_training(config)
    except OmoteError as error:
        known = api.count_parameters(config)
        return (f"{known:,} parameters; " if known else "") + f"time and memory not measured: {error}"
    return (
        f"{measured['parameters']:,.0f} parameters ({measured['frozen_parameters']:,.0f} frozen beside them); "
        f"{measured['images_per_s']:.1f} images/s here: {measured['hours']:.1f} h in all, {measured['memory_mb']:.0f} MB"
    )

"""``omote study``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run a study: train what is compared, and compare it.

    Writes DIR/table.csv, DIR/metrics.json and DIR/figure.svg. The same command goes on where a killed one was; several
    processes may each run some rows into one DIR.
    """

    study: Annotated[tyro.conf.Positional[Literal["f"]], tyro.conf.arg(metavar="STUDY")]
    """f: diffusion behind first stages of f = 1 to 32, at equal time and network size, and a small GAN"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the results; made if missing"""
    population: Annotated[Path, tyro.conf.arg(metavar="SHARDS")]
    """folder of `omote population`; its last persons are held out"""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW ...")] = ()
    """some of pixel, kl-f2 to kl-f32, vq-f2 to vq-f32, gan; all but vq if none is given"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """of training for each row's generator; its first stage has minutes of its own"""
    size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """pixels of a side, a whole fraction of the population's"""
    clock: Annotated[Literal["wall", "cpu"] | None, tyro.conf.arg(metavar="wall|cpu", help_behavior_hint="")] = None
    """what minutes are of: the wall's clock, or computing, where other work shares the machine"""
    tiny: bool = False
    """seconds instead of minutes: tries everything, means nothing"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """change single values, such as first_stage_minutes=5 or num_drawn=1000"""


def run(options: Options) -> None:
    """Run it and say where the numbers are."""
    from omote import api
    from omote.cli.display import Display

    api.check_folder(options.out)
    with Display() as display:
        metrics = api.study(
            options.study,
            out=options.out,
            population=options.population,
            rows=options.rows or None,
            minutes=options.minutes,
            size=options.size,
            clock=options.clock,
            tiny=options.tiny,
            changes=options.set,
            on_step=display,
        )
    print(f"{options.out / 'metrics.json'}: {len(metrics)} numbers; figure.svg and table.csv lie beside it")

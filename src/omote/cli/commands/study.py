"""``omote study``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run a study: what is compared is measured at equal terms, and trained first where it must be.

    Writes DIR/table.csv, DIR/metrics.json and DIR/figure.svg. The same command goes on where a killed one was. Each option says
    which studies take it.
    """

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """f: diffusion behind first stages of f = 1 to 32, at equal time and network size, and a small GAN;
    guidance: identity against expression strength, over scales of guidance; camera: error, identity and expression against yaw,
    pitch, focal length and distance; intensity: asked against obtained; source-noise: error against a sensor's noise, holes and
    steps; verification: training time, inference time, depth and expression accuracy of every row of a release evaluation;
    diffusion: where the answer is determined and where it is not, drawn and regressed; data-size: one editor trained on 64, 256,
    1024 and all persons, at equal images; cross-model: editors trained on one head family and measured on the other"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the results; made if missing"""
    population: Annotated[Path | None, tyro.conf.arg(metavar="SHARDS", help_behavior_hint="")] = None
    """f, data-size, cross-model (needed): folder of `omote population`; in f its last persons are held out"""
    ict: flags.File = None
    """studies of the editor: an ICT-FaceKit checkout or .npz; half of the persons come from it"""
    persons: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """studies of the editor: unseen persons; 20 without"""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """of persons and noise"""
    weights: flags.Folder = None
    """studies of the editor: a run's export folder instead of the shipped weights"""
    release: flags.Folder = None
    """verification (needed): results of `omote evaluate release`, finished"""
    runs: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")] = ()
    """verification: folders of training runs, for their hours; of other networks the record beside the weights says them"""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW ...")] = ()
    """f: some of pixel, kl-f2 to kl-f32, vq-f2 to vq-f32, gan; all but vq if none is given. Several processes may each run some
    into one DIR"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """f: of training for each row's generator; its first stage has minutes of its own. data-size, cross-model: of each editor,
    instead of images"""
    images: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """data-size, cross-model: that each editor trains on; 40,000 without"""
    size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """f: pixels of a side, a whole fraction of the population's"""
    clock: Annotated[Literal["wall", "cpu"] | None, tyro.conf.arg(metavar="wall|cpu", help_behavior_hint="")] = None
    """f, data-size, cross-model, verification: what times are of: the wall's clock, or computing, as others share a machine"""
    tiny: bool = False
    """f, data-size: seconds instead of minutes: tries everything, means nothing"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """change single values of the study (docs/studies.md), such as first_stage_minutes=5"""


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
            ict=options.ict,
            persons=options.persons,
            seed=options.seed,
            weights=options.weights,
            release=options.release,
            runs=options.runs or None,
            rows=options.rows or None,
            minutes=options.minutes,
            images=options.images,
            size=options.size,
            clock=options.clock,
            tiny=options.tiny,
            changes=options.set,
            on_step=display,
        )
    print(f"{options.out / 'metrics.json'}: {len(metrics)} numbers; figure.svg and table.csv lie beside it")

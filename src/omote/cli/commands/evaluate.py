"""``omote evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from omote.cli import flags

Suite = Literal["release", "quick", "population", "samplers", "text", "judges", "first-stage", "editors", "scans"]
Asked = Literal["arkit", "category", "prior"]
TestSet = Literal["in-model", "cross-model", "sensor", "pose", "expressive"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run an evaluation suite.

    Writes DIR/metrics.json with flat keys <metric>/<row>; persons measured already are not measured again. The suites release,
    quick, judges and scans also write run.json (versions, machine, seeds), table.csv and report.html, a page that needs nothing
    else.
    """

    suite: Annotated[tyro.conf.Positional[Suite], tyro.conf.arg(metavar="SUITE")]
    """release: what a release must show; quick: the same of few persons, in minutes;
    population: are true renders recognised (and a sheet of them); samplers: each at
    several numbers of steps, as a table; text: in words, against by category; judges: do they tell
    persons and expressions apart; first-stage: what the autoencoders of --runs lose, as a table; editors: those of --runs
    against the first, at several numbers of steps, given weights or a category alone; scans: --scans, whose truth nobody
    knows: fit, identity, asked expression"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the results; made if missing"""
    persons: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """unseen persons, each with seven expressions; without, 200, and 10 for quick"""
    test_set: TestSet = "in-model"
    """release, quick: in-model: both heads, as training draws them; cross-model: of --ict alone; sensor: seen by a depth camera;
    pose: turned by up to 30 degrees; expressive: the source is not at rest"""
    ict: flags.File = None
    """an ICT-FaceKit checkout or .npz: half of the persons come from it"""
    seed: int = 0
    """of persons and noise"""
    backend: flags.Backend = "auto"
    """what runs the networks"""
    weights: flags.Folder = None
    """a run's export folder instead of the shipped weights"""
    rivals: flags.Folder = None
    """results of an earlier run on the same persons, whose rows without networks are taken over"""
    sets: bool = False
    """for release (quick always does): compare the rows as sets of images too (Fréchet and kernel distance, precision, recall)"""
    regression: flags.Folder = None
    """release, quick: a run or weights folder for the row of that name instead of the shipped one"""
    pixel_diffusion: flags.Folder = None
    """the same"""
    arcface: flags.File = None
    """for judges, release, quick: an ArcFace backbone (.safetensors) as a second identity network"""
    runs: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")] = ()
    """first-stage, editors: the runs or weights folders to compare, rows named after the folder"""
    steps: Annotated[tuple[int, ...], tyro.conf.arg(metavar="INT ...")] = ()
    """samplers, editors: numbers of steps of each; without, samplers takes 1 to 200 (minutes per person), editors 50 4 2 1"""
    guidance_scale: float = 1.0
    """editors: of those that have none folded in"""
    conditions: Annotated[tuple[Asked, ...], tyro.conf.arg(metavar="arkit|category|prior ...")] = ()
    """editors: what is asked for: the truth's weights, category and intensity alone, or weights drawn for these; all if none
    is given"""
    scans: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")] = ()
    """scans: real scans, in any format that `omote avatar` reads"""
    perceptual: flags.File = None
    """first-stage: the weights file of a second perceptual distance (docs/studies.md); left out without it"""


def run(options: Options) -> None:
    """Evaluate and say where the numbers are."""
    from omote import api
    from omote.cli.display import Display

    api.check_folder(options.out)
    with Display() as display:
        metrics = api.evaluate(
            options.suite,
            out=options.out,
            persons=options.persons,
            test_set=options.test_set,
            ict=options.ict,
            seed=options.seed,
            backend=options.backend,
            weights=options.weights,
            rivals=options.rivals,
            sets=options.sets,
            regression=options.regression,
            pixel_diffusion=options.pixel_diffusion,
            arcface=options.arcface,
            runs=options.runs,
            perceptual=options.perceptual,
            steps=options.steps,
            guidance_scale=options.guidance_scale,
            conditions=options.conditions,
            scans=options.scans,
            on_step=display,
        )
    if options.suite == "judges":
        from omote.studies.judge_check import table_rows

        print("\n".join("  ".join(line) for line in table_rows(metrics)))
    print(f"{options.out / 'metrics.json'}: {len(metrics)} numbers")

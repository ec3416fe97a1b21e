"""``omote.study``: comparisons at equal terms, each a table and a figure, found by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from omote.config import nearest, override, to_json
from omote.errors import ConfigError, OutputError
from omote.files import atomic_path, check_folder, make_folder
from omote.progress import Step
from omote.rgbd.weights import fingerprint


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where a study lies; what it takes are the fields of its config.

    Attributes:
        module: that holds it, imported only when it is asked for.
        config: name of its frozen dataclass.
        run: name of ``(config, out) -> Iterator[Step]``, which ends with metrics.json, table.csv and figure.svg in ``out``.
        tiny: name of a function that takes what has no default and gives the config of seconds; none if empty.
        measures_runs: its ``runs`` are networks that results are of, not only what is told of them.
    """

    module: str
    config: str
    run: str
    tiny: str = ""
    measures_runs: bool = False


STUDIES: Mapping[str, Study] = {
    "f": Study(module="omote.studies.effect_of_f.study", config="EffectOfF", run="study_f", tiny="tiny_study"),
    "guidance": Study(module="omote.studies.guidance", config="Guidance", run="study_guidance"),
    "camera": Study(module="omote.studies.camera", config="Cameras", run="study_camera"),
    "intensity": Study(module="omote.studies.intensity", config="Intensity", run="study_intensity"),
    "source-noise": Study(module="omote.studies.source_noise", config="SourceNoise", run="study_source_noise"),
    "diffusion": Study(
        module="omote.studies.diffusion",
        config="WhereDiffusionPays",
        run="study_diffusion",
        measures_runs=True,
    ),
    "data-size": Study(
        module="omote.studies.data_size", config="DataSize", run="study_data_size", tiny="tiny_data_size"
    ),
    "cross-model": Study(module="omote.studies.cross_model", config="CrossModel", run="study_cross_model"),
    "verification": Study(module="omote.studies.verification", config="Verification", run="study_verification"),
}
# Options of the command line whose field has a longer name.
FIELDS = {"persons": "num_persons"}
# What a folder's kept results do not depend on: more may be added later.
FREE_FIELDS = ("rows", "num_persons", "runs")


def study(
    name: str,
    *,
    out: Path | str,
    population: Path | str | None = None,
    ict: Path | str | None = None,
    persons: int | None = None,
    seed: int | None = None,
    weights: Path | str | None = None,
    release: Path | str | None = None,
    runs: Sequence[Path | str] | None = None,
    rows: Sequence[str] | None = None,
    minutes: float | None = None,
    images: int | None = None,
    size: int | None = None,
    clock: Literal["wall", "cpu"] | None = None,
    tiny: bool = False,
    changes: Sequence[str] = (),
    on_step: Callable[[Step], None] | None = None,
) -> dict[str, float | int | None]:
    """Measure, and train where it must, into a folder that goes on where it was: ``table.csv``, ``metrics.json``, ``figure.svg``.

    Args:
        name: of `STUDIES`; docs/studies.md says what each compares and which of the following it takes.
        out: folder, made if missing.
        population: folder of rendered shards.
        ict: ICT-FaceKit, by path: half of the test persons come from it.
        persons: unseen persons that are measured.
        seed: of persons and noise.
        weights: a folder with ``autoencoder/`` and ``editor/``; the shipped one if None.
        release: result folder of an evaluation.
        runs: folders of training runs.
        rows: which of them now; several processes may each run some into one folder.
        minutes: that each row trains.
        images: that each row trains on.
        size: pixels of a side.
        clock: of all minutes.
        tiny: seconds instead of minutes; the results mean nothing.
        changes: single values of the study's config, ``["num_drawn=1000"]``.
        on_step: called with progress.

    Returns:
        Flat keys ``<metric>/<row>``, of the rows that are whole.

    Raises:
        ConfigError: an unknown study, row, key or value, or an option that the study has no use for.
        CheckpointError: missing or damaged weights.
        JudgeError: a judge or the features' network is not installed.
        OutputError: ``out`` cannot be written, or holds a study of other settings or weights.
    """
    if name not in STUDIES:
        raise ConfigError(f"{name}: unknown study{nearest(name, STUDIES)}")
    out = Path(out)
    check_folder(out)
    given = {
        "population": _text(population),
        "ict": _text(ict),
        "persons": persons,
        "seed": seed,
        "weights": _text(weights),
        "release": _text(release),
        "runs": None if runs is None else [str(run) for run in runs],
        "rows": None if rows is None else list(rows),
        "minutes": minutes,
        "images": images,
        "size": size,
        "clock": clock,
    }
    config, run = _prepared(name, {key: value for key, value in given.items() if value is not None}, tiny, changes)
    _claim(out, name, config)
    for step in run(config, out):
        if on_step is not None:
            on_step(step)
    metrics: dict[str, float | int | None] = json.loads((out / "metrics.json").read_text())
    return metrics


def _text(path: Path | str | None) -> str | None:
    return None if path is None else str(path)


def _prepared(
    name: str, given: Mapping[str, Any], tiny: bool, changes: Sequence[str]
) -> tuple[Any, Callable[..., Any]]:
    """A study's config of the options given, and what runs it."""
    found = STUDIES[name]
    module = import_module(found.module)
    kind = getattr(module, found.config)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for option in given:
        if FIELDS.get(option, option) not in fields:
            raise ConfigError(f"{option}: the study {name} has no use for it; leave it out")
    if tiny and not found.tiny:
        raise ConfigError(f"tiny: the study {name} has no tiny form; leave it out and give few persons")
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [option for option in needed if option not in given]:
        raise ConfigError(f"{missing[0]}: the study {name} needs it; give --{missing[0].replace('_', '-')}")
    # What has no default is a path, or several.
    required = {n: Path(v) if isinstance(v := given[n], str) else tuple(map(Path, v)) for n in needed}
    config = (getattr(module, found.tiny) if tiny else kind)(**required)
    values = {FIELDS.get(option, option): value for option, value in given.items() if option not in required}
    config = override(config, [*(f"{key}={json.dumps(value)}" for key, value in values.items()), *changes])
    return config, getattr(module, found.run)


def _claim(out: Path, name: str, config: Any) -> None:
    """What was measured with other settings or weights would silently stand in one table."""
    settings = to_json(config)
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    settings |= {key: to_json(defaults[key]) for key in FREE_FIELDS if key in settings}
    if "weights" in settings:
        from omote.rgbd.weights import SHIPPED_WEIGHTS

        settings["weights"] = fingerprint(SHIPPED_WEIGHTS if config.weights is None else config.weights)
    if STUDIES[name].measures_runs:
        settings["runs"] = {run.resolve().name: fingerprint(run) for run in config.runs}
    if name != "f":
        settings["study"] = name
    make_folder(out)
    path = out / "config.json"
    try:
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != settings:
            raise OutputError(f"{out}: holds a study of other settings or weights; give another folder")
    except ValueError:
        raise OutputError(f"{path}: expected what a study was asked for; give another folder") from None
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""``omote.evaluate``: the suites, into a folder that remembers what was measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omote.config import to_json
from omote.errors import ConfigError, OutputError
from omote.files import atomic_path, check_folder, make_folder
from omote.progress import Step
from omote.rgbd.weights import RIVALS, fingerprint
from omote.runs import Stopwatch, Value, write_run

if TYPE_CHECKING:
    from omote.evaluation.measure import EvaluationStep
    from omote.rgbd.model import EditingModel, EditSettings
    from omote.studies.release import ReleaseConfig

Suite = Literal["release", "quick", "population", "samplers", "text", "judges", "first-stage", "editors", "scans"]
# The names of `omote.evaluation.testsets.SetName`, which takes too long to import.
SetName = Literal["in-model", "cross-model", "sensor", "pose", "expressive"]
PERSONS, QUICK_PERSONS = 200, 10


def evaluate(
    suite: Suite = "release",
    *,
    out: Path | str,
    persons: int | None = None,
    test_set: SetName = "in-model",
    ict: Path | str | None = None,
    seed: int = 0,
    backend: Literal["auto", "torch", "openvino"] = "auto",
    weights: Path | str | None = None,
    rivals: Path | str | None = None,
    sets: bool = False,
    regression: Path | str | None = None,
    pixel_diffusion: Path | str | None = None,
    arcface: Path | str | None = None,
    runs: Sequence[Path | str] = (),
    perceptual: Path | str | None = None,
    steps: Sequence[int] = (),
    guidance_scale: float = 1.0,
    conditions: Sequence[Literal["arkit", "category", "prior"]] = (),
    scans: Sequence[Path | str] = (),
    on_step: Callable[[Step], None] | None = None,
) -> dict[str, float | int | None]:
    """Measure networks on unseen persons and write ``out/metrics.json``.

    Args:
        suite: "release": every row of the tables, with ``out/run.json``, ``out/table.csv`` and ``out/report.html``; "quick": the
            same of few persons, with ``sets``, in minutes; "judges": do
            the judges tell persons and expressions apart on true renders, with the same files; "population": the judges on
            true renders alone, with a sheet of them; "samplers": every sampler at several numbers of steps, also as
            ``out/table.csv`` and ``out/figure.svg``; "text": expressions asked for in held-out words against those asked for by
            category;
            "first-stage": the autoencoders of ``runs``, a row each; "editors": the editors of ``runs`` against the first of
            them, at every one of ``steps``, with the truth's weights given and by category alone; "scans": real scans, of which
            nobody knows the truth: fit error, identity and asked expression of every row, with a page of its own.
        out: folder, made if missing; persons that it holds already are not measured again.
        persons: how many, each with seven expressions; 200, and for "quick" 10, if None.
        test_set: of "release" and "quick": who is edited, and how they were captured (`omote.evaluation.testsets`).
        ict: ICT-FaceKit, by path: half of the persons come from it.
        seed: of persons and noise.
        backend: what runs the networks.
        weights: a folder with ``autoencoder/`` and ``editor/``, or with an editor alone that was trained behind the shipped
            autoencoder, or an editor's run; the shipped folder if None.
        rivals: an earlier result folder of the same persons, whose rows without networks are taken over.
        sets: for "release", compare the rows as sets of images too: Fréchet and kernel distance, precision, recall, perceptual
            distance; takes about a third longer.
        regression: of "release" and "quick": a run or weights folder for the row of that name; the shipped one if None.
        pixel_diffusion: the same.
        arcface: for "judges", "release" and "quick", an ArcFace backbone (.safetensors) as a second identity network.
        runs: of "first-stage" and "editors": runs or weights folders; their names are the rows'.
        perceptual: of "first-stage": the weights file of `omote.nets.perceptual`, for a second perceptual distance.
        steps: of "samplers": numbers of steps of each; 1 to 200 if none is given, which takes minutes per person. Of "editors":
            50, 4, 2 and 1 if none is given.
        guidance_scale: of "editors": for those that have none folded in.
        conditions: of "editors": what is asked for (`omote.studies.editors`); all if none is given.
        scans: of "scans": files or RGB-D folders.
        on_step: called with progress.

    Returns:
        Flat keys ``<metric>/<row>``.

    Raises:
        ConfigError: no persons, no runs to compare, or no scan that could be measured.
        CheckpointError: missing or damaged weights.
        JudgeError: the judges are not installed.
        CheckpointError: ``arcface`` does not hold one.
        OutputError: ``out`` cannot be written, or holds results of other settings or weights.
    """
    persons = (QUICK_PERSONS if suite == "quick" else PERSONS) if persons is None else persons
    if persons < 1:
        raise ConfigError(f"persons: expected at least 1, got {persons}")
    if any(count < 1 for count in steps):
        raise ConfigError(f"steps: expected at least 1, got {min(steps)}")
    if test_set != "in-model" and suite not in ("release", "quick"):
        raise ConfigError(f"test_set: {suite} knows one set of persons; leave --test-set out")
    out = Path(out)
    check_folder(out)
    if suite == "population":
        return _population(out, persons=persons, ict=ict, seed=seed, on_step=on_step)
    if suite == "judges":
        return _judges(out, persons=persons, ict=ict, seed=seed, arcface=arcface, on_step=on_step)
    if suite == "first-stage":
        files = None if perceptual is None else Path(perceptual)
        return _first_stages(
            out, [Path(r) for r in runs], persons=persons, ict=ict, seed=seed, perceptual=files, on_step=on_step
        )
    if suite == "editors":
        return _editors(
            out,
            [Path(r) for r in runs],
            persons=persons,
            ict=ict,
            seed=seed,
            backend=backend,
            steps=tuple(steps),
            guidance_scale=guidance_scale,
            conditions=tuple(conditions),
            on_step=on_step,
        )

    from omote.datasets.population import PopulationConfig
    from omote.rgbd.model import SHIPPED_WEIGHTS, EditSettings
    from omote.studies.editors import load_editor
    from omote.studies.release import ReleaseConfig
    from omote.studies.samplers import SamplerSurvey, survey_samplers

    folder = SHIPPED_WEIGHTS if weights is None else Path(weights)
    config = ReleaseConfig(
        population=PopulationConfig(seed=seed, split="test", ict=None if ict is None else Path(ict)),
        test_set=test_set,
        num_persons=persons,
        settings=EditSettings(seed=seed),
    )
    if test_set != "in-model":
        # How wide the model draws is no matter of how a source is captured, and takes longer than all else.
        config = replace(config, num_best_of=0)
    elif suite == "quick":
        config = replace(config, best_of=4, num_best_of=4)
    if on_step is not None:
        on_step(Step(stage="load"))
    model = load_editor(folder, backend)
    if suite == "samplers":
        survey = SamplerSurvey(population=config.population, num_persons=persons, seed=seed)
        if steps:
            survey = replace(survey, steps=tuple(steps))
        _claim(out, {"suite": suite, "weights": _networks_fingerprint(model), "config": to_json(survey)})
        return _measured(survey_samplers(model, survey, out), out, on_step)
    if suite == "text":
        from omote.studies.text_prompts import TextSuite, evaluate_text

        asked = TextSuite(population=config.population, num_persons=persons, settings=config.settings)
        _claim(out, {"suite": suite, "weights": fingerprint(folder), "config": to_json(asked)})
        return _measured(evaluate_text(model, asked, out), out, on_step)
    others = {"regression": regression, "pixel_diffusion": pixel_diffusion}
    networks = {row: _rival_folder(row, given) for row, given in others.items()}
    if suite == "scans":
        return _scans(model, tuple(Path(scan) for scan in scans), config.settings, out, networks, backend, on_step)
    return _release(
        suite,
        model,
        config,
        out,
        rivals=None if rivals is None else Path(rivals),
        sets=sets or suite == "quick",
        networks=networks,
        arcface=None if arcface is None else Path(arcface),
        backend=backend,
        on_step=on_step,
    )


def _rival_folder(row: str, given: Path | str | None) -> Path | None:
    """Where the weights of a row of another network lie; None if there are none."""
    from omote.rgbd.weights import SHIPPED_WEIGHTS

    if given is not None:
        return Path(given)
    shipped = SHIPPED_WEIGHTS / RIVALS / row
    return shipped if shipped.is_dir() else None


def _loaded_rivals(
    networks: Mapping[str, Path | None], backend: Literal["auto", "torch", "openvino"]
) -> tuple[dict[str, EditingModel], dict[str, str]]:
    """The networks of rows that have some, and their fingerprints."""
    from omote.studies.editors import load_editor

    loaded = {row: load_editor(folder, backend) for row, folder in networks.items() if folder is not None}
    return loaded, {row: _networks_fingerprint(network) for row, network in loaded.items()}


def _release(
    suite: Suite,
    model: EditingModel,
    config: ReleaseConfig,
    out: Path,
    *,
    rivals: Path | None,
    sets: bool,
    networks: Mapping[str, Path | None],
    arcface: Path | None,
    backend: Literal["auto", "torch", "openvino"],
    on_step: Callable[[Step], None] | None,
) -> dict[str, float | int | None]:
    from omote.evaluation.features import load_arcface
    from omote.evaluation.sets import load_set_networks
    from omote.evaluation.testsets import population_of
    from omote.studies.release import evaluate_release

    population_of(config.test_set, config.population)  # what cannot be must not claim the folder
    second = None if arcface is None else load_arcface(arcface)
    loaded, weights = _loaded_rivals(networks, backend)
    settings: dict[str, object] = {
        "suite": suite,
        "weights": fingerprint(model.weights),
        "networks": weights,
        "second_identity": None if second is None else second.name,
        "config": to_json(config),
    }
    _claim(out, settings)
    if rivals is not None:
        _check_same_persons(rivals, settings)
    watch, before = Stopwatch(), _num_persons(out)
    with watch("measure"):
        steps = evaluate_release(
            model,
            config,
            out,
            rivals=None if rivals is None else rivals / "rivals",
            sets=load_set_networks() if sets else None,
            networks=loaded,
            second_identity=second,
        )
        metrics = _measured(steps, out, on_step)
    facts: dict[str, Value] = {
        "run/suite": suite,
        "run/test_set": config.test_set,
        "run/weights": fingerprint(model.weights),
        **{f"run/weights_{row}": value for row, value in weights.items()},
        **{f"run/missing_{row}": True for row, folder in networks.items() if folder is None},
        "run/second_identity": None if second is None else second.name,
        "run/backend": backend,
        "run/ict": config.population.ict is not None,
        "run/rivals_taken_over": rivals is not None,
        "run/steps": config.settings.steps,
        "run/sampler": config.settings.sampler,
        "run/guidance_scale": config.settings.guidance_scale,
        "seed/persons": config.population.seed,
        "seed/noise": config.settings.seed,
        "count/persons": metrics["count/persons"],
        "count/images": metrics["count/images"],
    }
    write_run(out / "run.json", facts, watch, measured=_num_persons(out) - before)

    from omote.evaluation.report import load_results, write_report

    if on_step is not None:
        on_step(Step(stage="report"))
    write_report(load_results(out))
    return metrics


def _scans(
    model: EditingModel,
    scans: tuple[Path, ...],
    settings: EditSettings,
    out: Path,
    networks: Mapping[str, Path | None],
    backend: Literal["auto", "torch", "openvino"],
    on_step: Callable[[Step], None] | None,
) -> dict[str, float | int | None]:
    from omote.studies.real_scans import ScanSuite, evaluate_scans
    from omote.studies.real_scans_page import write_scan_report

    config = ScanSuite(scans=scans, settings=settings)
    config.names()  # what cannot be must not claim the folder
    loaded, weights = _loaded_rivals(networks, backend)
    _claim(
        out,
        {"suite": "scans", "weights": fingerprint(model.weights), "networks": weights, "config": to_json(config)},
    )
    watch, before = Stopwatch(), len(list((out / "scans").glob("*.json")))
    with watch("measure"):
        metrics = _measured(evaluate_scans(model, config, out, networks=loaded), out, on_step)
    facts: dict[str, Value] = {
        "run/suite": "scans",
        "run/weights": fingerprint(model.weights),
        **{f"run/weights_{row}": value for row, value in weights.items()},
        "run/backend": backend,
        "run/steps": settings.steps,
        "seed/noise": settings.seed,
        "count/persons": len(scans),
    }
    measured = len(list((out / "scans").glob("*.json"))) - before
    write_scan_report(out, metrics, write_run(out / "run.json", facts, watch, measured=measured))
    return metrics


def _num_persons(out: Path) -> int:
    return len(list((out / "persons").glob("[0-9]*.json")))


def _measured(
    steps: Iterator[EvaluationStep], out: Path, on_step: Callable[[Step], None] | None
) -> dict[str, float | int | None]:
    """Run a suite to its end and read what it wrote."""
    for step in steps:
        if on_step is not None:
            on_step(Step(stage="measure", done=step.done, total=step.total))
    metrics: dict[str, float | int | None] = json.loads((out / "metrics.json").read_text())
    return metrics


def _population(
    out: Path, *, persons: int, ict: Path | str | None, seed: int, on_step: Callable[[Step], None] | None
) -> dict[str, float | int | None]:
    from omote.datasets.population import PopulationConfig
    from omote.studies.ground_truth import PopulationSuite, evaluate_population

    population = PopulationConfig(seed=seed, split="test", ict=None if ict is None else Path(ict))
    make_folder(out)
    return _measured(
        evaluate_population(PopulationSuite(population=population, num_persons=persons), out), out, on_step
    )


def _judges(
    out: Path,
    *,
    persons: int,
    ict: Path | str | None,
    seed: int,
    arcface: Path | str | None,
    on_step: Callable[[Step], None] | None,
) -> dict[str, float | int | None]:
    from omote.datasets.population import PopulationConfig
    from omote.evaluation.features import load_arcface
    from omote.studies.judge_check import JudgeCheck, check_judges
    from omote.studies.judge_page import write_judge_report

    population = PopulationConfig(seed=seed, split="test", ict=None if ict is None else Path(ict))
    config = JudgeCheck(population=population, num_persons=persons, arcface=None if arcface is None else Path(arcface))
    if config.arcface is not None:
        load_arcface(config.arcface)  # a wrong file must not claim the folder
    _claim(out, {"suite": "judges", "config": to_json(config)})
    watch, before = Stopwatch(), _num_persons(out)
    with watch("measure"):
        metrics = _measured(check_judges(config, out), out, on_step)
    facts: dict[str, Value] = {
        "run/suite": "judges",
        "run/ict": ict is not None,
        "seed/persons": seed,
        "count/persons": persons,
    }
    run = write_run(out / "run.json", facts, watch, measured=_num_persons(out) - before)
    write_judge_report(metrics, run, out / "report.html")
    return metrics


def _first_stages(
    out: Path,
    runs: Sequence[Path],
    *,
    persons: int,
    ict: Path | str | None,
    seed: int,
    perceptual: Path | None,
    on_step: Callable[[Step], None] | None,
) -> dict[str, float | int | None]:
    from omote.datasets.population import PopulationConfig
    from omote.studies.first_stage import FirstStageSuite, evaluate_first_stages

    if not runs:
        raise ConfigError("runs: expected at least one run's folder to measure; give --runs DIR ...")
    population = PopulationConfig(seed=seed, split="test", ict=None if ict is None else Path(ict))
    suite = FirstStageSuite(population=population, num_persons=persons, perceptual=perceptual)
    # Rows average over persons, so unlike other suites' they are of a fixed number of these.
    _claim(out, {"suite": "first-stage", "config": {**to_json(suite), "persons": persons}})
    return _measured(evaluate_first_stages(runs, suite, out), out, on_step)


def _editors(
    out: Path,
    runs: Sequence[Path],
    *,
    persons: int,
    ict: Path | str | None,
    seed: int,
    backend: Literal["auto", "torch", "openvino"],
    steps: tuple[int, ...],
    guidance_scale: float,
    conditions: tuple[Literal["arkit", "category", "prior"], ...],
    on_step: Callable[[Step], None] | None,
) -> dict[str, float | int | None]:
    from omote.datasets.population import PopulationConfig
    from omote.studies.editors import EditorSuite, evaluate_editors, load_editor
    from omote.studies.first_stage import row_names

    if not runs:
        raise ConfigError("runs: expected at least one run's folder to measure; give --runs DIR ...")
    names = row_names(runs)
    if on_step is not None:
        on_step(Step(stage="load"))
    models = {name: load_editor(run, backend) for name, run in zip(names, runs, strict=True)}
    population = PopulationConfig(seed=seed, split="test", ict=None if ict is None else Path(ict))
    suite = EditorSuite(population=population, num_persons=persons, guidance_scale=guidance_scale, seed=seed)
    if steps:
        suite = replace(suite, steps=steps)
    if conditions:
        suite = replace(suite, conditions=conditions)
    weights = {name: fingerprint(model.weights) for name, model in models.items()}
    _claim(out, {"suite": "editors", "weights": weights, "config": to_json(suite)})
    return _measured(evaluate_editors(models, suite, out), out, on_step)


def _networks_fingerprint(model: EditingModel) -> str:
    """As `fingerprint`, of the loaded parameters: parts of a network may lie in several folders."""
    digest = hashlib.sha256()
    for network in (model.autoencoder, model.editor):
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(name.encode() + b"\0" + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _claim(out: Path, settings: dict[str, object]) -> None:
    # Persons are kept between runs, so results of other weights would silently mix into these.
    make_folder(out)
    path = out / "config.json"
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    # The number of persons may grow: each person's result does not depend on it.
    elif _without_count(path.read_text(encoding="utf-8")) != _without_count(text):
        raise OutputError(f"{out}: holds results of other settings or weights; give another folder")


def _check_same_persons(rivals: Path, settings: dict[str, object]) -> None:
    try:
        theirs = _persons_of(json.loads((rivals / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{rivals}: expected the result folder of an earlier release evaluation") from None
    ours = _persons_of(json.loads(json.dumps(settings)))
    if theirs != ours:
        raise ConfigError(f"{rivals}: its persons or rows are others ({theirs}, not {ours}); leave --rivals out")


def _persons_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's persons and the rows of others depend on."""
    config = settings["config"]
    return {
        **config["population"],
        "test_set": config.get("test_set", "in-model"),
        "networks": settings.get("networks"),
        "second_identity": settings.get("second_identity"),
    }


def _without_count(text: str) -> object:
    try:
        settings = json.loads(text)
        del settings["config"]["num_persons"]
    except (ValueError, KeyError, TypeError):
        return None
    return settings

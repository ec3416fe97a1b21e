"""A finished result folder of invented numbers, for tests of its readers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from omote.evaluation.catalogue import catalogue, write_metrics
from omote.evaluation.records import PersonRecords, Record, Row, descriptor_by, joined, judged_by, save_records
from omote.evaluation.summary import persons_apart, summarise
from omote.studies.edit_methods import MODEL_ROWS, RIVAL_ROWS
from omote.studies.table import flat

# How far each row is off, in the units of an error; the judges' share of hits.
QUALITY = {"model": 1.0, "model_category": 2.0, "model_token": 3.0, "autoencoder_ceiling": 0.5, "copy_source": 4.0,
           "head_edit": 2.5, "deformation_transfer": 2.6, "regression": 1.5}  # fmt: skip
HITS = {"model": 0.6, "model_category": 0.6, "model_token": 0.3, "autoencoder_ceiling": 0.7, "ceiling": 0.8,
        "copy_source": 1 / 7, "head_edit": 0.9, "deformation_transfer": 0.3, "regression": 0.3}  # fmt: skip


def write_results(
    folder: Path, *, num_persons: int = 30, better_by: float = 0.0, seed: int = 0, networks: Sequence[str] = ()
) -> Path:
    """Write a folder whose model is ``better_by`` in every error, on the same persons for every such value.

    The 3DMM edit is better in expression accuracy, the model in everything else. ``networks`` are rows with files of their own,
    as in `omote.studies.edit_methods.NETWORK_ROWS`.
    """
    for name, data in _results(num_persons, better_by, seed, tuple(networks)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@cache
def _results(num_persons: int, better_by: float, seed: int, networks: tuple[str, ...]) -> dict[str, bytes]:
    """Contents of the files by name: summing up thirty persons takes longer than a test should."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder, num_persons, better_by, seed, networks)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _fill(folder: Path, num_persons: int, better_by: float, seed: int, networks: tuple[str, ...]) -> None:
    rng = np.random.default_rng(seed)
    (folder / "persons").mkdir(parents=True)
    groups = {"model": MODEL_ROWS, "rivals": RIVAL_ROWS, **{row: (Row(row),) for row in networks}}
    persons = []
    for index in range(num_persons):
        hardness = rng.normal(0, 0.2)
        order = (0, *(1 + rng.permutation(6)).tolist())
        person = PersonRecords(
            parts={"head": "omote" if index % 2 else "ict"},
            category=order,
            intensity=tuple(rng.uniform(0.4, 1, 7).tolist()),
            records=(Record(row=Row("ceiling"), measure=descriptor_by("faceapi"), values=rng.normal(size=(1, 8))),),
        )
        parts = []
        for name, rows in groups.items():
            records = [*person.records] if name == "model" else []
            for row in rows:
                records += measured(row, np.array(order), hardness - (better_by if name == "model" else 0.0), rng)
            parts.append(replace(person, records=tuple(records)))
            save_records(folder / "persons" / f"{index:06d}_{name}.json", parts[-1])
        persons.append(joined(parts))
    table = {**summarise(persons), **persons_apart(persons)}
    write_metrics(folder / "metrics.json", {**flat(table), "count/persons": num_persons})
    config = {"study": "release", "weights": {}, "config": {"seed": seed, "test_set": "in-model", "ict": None}}
    (folder / "config.json").write_text(json.dumps(config))


def measured(row: Row, order: np.ndarray, off: float, rng: np.random.Generator) -> list[Record]:
    """Made-up values of everything that the release suite measures of a row."""
    hit = rng.random(7) < HITS[row.name] if row.name != "copy_source" else order == 0
    judged = np.where(hit, order, (order + 1) % 7).astype(np.float64)
    values: dict[str, np.ndarray] = {}
    for judge in ("both", "faceapi", "fer"):
        values[judged_by(judge)] = judged
        values[f"expression/asked_{judge}"] = np.where(hit, 0.7, 0.1)
    if row.name != "ceiling":
        error = QUALITY[row.name] + off + rng.normal(0, 0.05, 7)
        values["identity/faceapi"] = error / 10
        values |= {m.key: 40 - error if m.better == "higher" else error for m in catalogue() if m.measure}
        # Nothing moves at rest.
        values["depth/mae_mm_moving"] = np.where(order == 0, np.nan, error)
    return [Record(row=row, measure=key, values=found) for key, found in values.items()]

"""A finished result folder of made-up numbers, for tests of what is made of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omote.studies.release import summarise
from omote.studies.rows import MODEL_ROWS, RIVAL_ROWS

AVERAGED = ("mae", "rmse", "absrel", "delta1", "mae_aligned", "mae_moving", "psnr", "psnr_mouth", "ssim", "silog",
            "delta2", "delta3", "normals", "still")  # fmt: skip
# How far each row is off, in the units of an error; the judges' share of hits.
QUALITY = {"model": 1.0, "model_category": 2.0, "model_token": 3.0, "autoencoder_ceiling": 0.5, "copy_source": 4.0,
           "head_edit": 2.5, "deformation_transfer": 2.6, "regression": 1.5}  # fmt: skip
HITS = {"model": 0.6, "model_category": 0.6, "model_token": 0.3, "autoencoder_ceiling": 0.7, "ceiling": 0.8,
        "copy_source": 1 / 7, "head_edit": 0.9, "deformation_transfer": 0.3, "regression": 0.3}  # fmt: skip
BETTER_WHEN_MORE = ("delta1", "delta2", "delta3", "psnr", "psnr_mouth", "ssim")


def write_results(
    folder: Path, *, num_persons: int = 30, better_by: float = 0.0, seed: int = 0, networks: Sequence[str] = ()
) -> Path:
    """Write a folder whose model is ``better_by`` in every error, on the same persons whatever that is.

    The 3DMM edit is the better one in expression accuracy, the model in everything else. ``networks`` are rows of their own
    files, as of `omote.studies.rows.NETWORK_ROWS`.
    """
    rng = np.random.default_rng(seed)
    (folder / "persons").mkdir(parents=True)
    (folder / "rivals").mkdir()
    persons = []
    for index in range(num_persons):
        hardness = rng.normal(0, 0.2)
        order = [0, *(1 + rng.permutation(6)).tolist()]
        shared: dict[str, Any] = {
            "head": "omote" if index % 2 else "ict",
            "category": order,
            "intensity": rng.uniform(0.4, 1, 7).tolist(),
            "descriptor": rng.normal(size=8).tolist(),
        }
        files = []
        for rows in (MODEL_ROWS, RIVAL_ROWS, *((row,) for row in networks)):
            person = dict(shared)
            for row in rows:
                hit = rng.random(7) < HITS[row] if row != "copy_source" else np.array(order) == 0
                judged = [c if h else (c + 1) % 7 for c, h in zip(order, hit, strict=True)]
                for judge in ("both", "faceapi", "fer"):
                    person[f"judged_{judge}/{row}"] = judged
                    person[f"asked_{judge}/{row}"] = np.where(hit, 0.7, 0.1).tolist()
                if row == "ceiling":
                    person[f"identity/{row}"] = [0.0] * 7
                    continue
                off = QUALITY[row] + hardness - (better_by if row.startswith("model") else 0.0)
                error = off + rng.normal(0, 0.05, 7)
                person[f"identity/{row}"] = (error / 10).tolist()
                for key in AVERAGED:
                    person[f"{key}/{row}"] = (40 - error if key in BETTER_WHEN_MORE else error).tolist()
                # Nothing moves at rest.
                person[f"mae_moving/{row}"][order.index(0)] = float("nan")
            files.append(person)
        names = ("persons/{:06d}", "rivals/{:06d}", *(f"rivals/{{:06d}}_{row}" for row in networks))
        for name, person in zip(names, files, strict=True):
            (folder / f"{name.format(index)}.json").write_text(json.dumps(person))
        persons.append({key: value for file in files for key, value in file.items()})
    (folder / "metrics.json").write_text(json.dumps(summarise(persons)))
    config = {"seed": seed, "test_set": "in-model", "ict": None}
    (folder / "config.json").write_text(json.dumps({"study": "release", "config": config}))
    return folder

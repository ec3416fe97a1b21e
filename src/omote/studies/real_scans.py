"""Real scans: what they would look like with another expression nobody knows, so what is measured needs no truth.

How well the head lies on the scan (``fit/…``, mm), whether the person is still there (identity distance to the scan's own image,
beside that of different persons), whether judges see what was asked, and what an edit changes where nothing should change: all
of a face asked to rest, and forehead, bridge of the nose and ears of one that moves. Every row is asked for the seven categories
with the weights that an avatar gets. A file per scan is written atomically, so that a killed run goes on where it was.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from omote.align.align import Alignment, align
from omote.errors import AlignmentError, ConfigError, ScanError
from omote.evaluation import metrics
from omote.evaluation.added import STILL_MM
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.deformation_transfer import DeformationTransfer
from omote.evaluation.judges import JUDGES, load_expression_judges, load_identity_judge
from omote.evaluation.measure import EvaluationStep, Judges
from omote.evaluation.pictures import save_strips
from omote.evaluation.surfaces import surface_errors
from omote.evaluation.truth import answered, stacked
from omote.files import atomic_path
from omote.formats.read import read
from omote.geometry.camera import project
from omote.head.expressions import CATEGORIES, typical_expression
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.pipelines.rgbd import rest_face
from omote.rendering.source import source_image
from omote.rgbd.model import EditingModel, EditSettings
from omote.studies.rows import NETWORK_ROWS, drawn, without_weights
from omote.types import Mesh, Rgbd

NEUTRAL = CATEGORIES.index("neutral")
# Key of a row's measure in a scan's file → key in metrics.json.
MEASURES: Mapping[str, str] = {
    "rest": "depth/mae_mm_rest",
    "still": "depth/mae_mm_still",
    "identity": "identity/faceapi",
    **{f"hit_{judge}": f"expression/top1_{judge}" for judge in JUDGES},
    "asked_both": "expression/asked_both",
}


@dataclass(frozen=True, kw_only=True)
class ScanSuite:
    """The suite.

    Attributes:
        scans: files or RGB-D folders; what they are called is their name without its suffix.
        settings: how networks sample.
    """

    scans: tuple[Path, ...]
    settings: EditSettings = EditSettings()

    def names(self) -> list[str]:
        """What each is called.

        Raises:
            ConfigError: none, or two of one name.
        """
        names = [scan.resolve().stem for scan in self.scans]
        if not names:
            raise ConfigError("scans: expected at least one scan; give --scans FILE ...")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"scans: expected files of different names, got {twice[0]} twice; rename one")
        return names


def evaluate_scans(
    model: EditingModel, suite: ScanSuite, out: Path, *, networks: Mapping[str, EditingModel] | None = None
) -> Iterator[EvaluationStep]:
    """Measure into ``out``: ``scans/NAME.json`` and ``scans/NAME.png`` as it goes, ``metrics.json`` and ``table.csv`` at the end.

    A scan that cannot be read or holds no face is listed with the reason and counted as skipped; the next run tries it again.

    Args:
        model: the networks.
        suite: the scans.
        out: folder of the results.
        networks: other networks by row, of `NETWORK_ROWS`.

    Raises:
        ConfigError: no scans, two of one name, or none of which anything could be measured.
        JudgeError: the judges' weights are not installed.
    """
    names, head = suite.names(), shipped_head()
    judges = Judges(expression=load_expression_judges(), identity=load_identity_judge())
    folder = out / "scans"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, (name, path) in enumerate(zip(names, suite.scans, strict=True)):
        kept = folder / f"{name}.json"
        if not kept.exists() or "skipped" in json.loads(kept.read_text()):
            try:
                record = _measured(path, model, networks or {}, suite.settings, head, judges, folder / f"{name}.png")
            except (ScanError, AlignmentError) as error:
                record = {"skipped": str(error)}
            with atomic_path(kept) as temporary:
                temporary.write_text(json.dumps(record))
        found.append(json.loads(kept.read_text()))
        yield EvaluationStep(done=number + 1, total=len(names))
    scans = {name: record for name, record in zip(names, found, strict=True) if "skipped" not in record}
    if not scans:
        raise ConfigError(f"scans: none of {len(names)} could be measured; the first: {found[0]['skipped']}")
    numbers = summarise_scans(scans) | {"count/skipped": len(names) - len(scans)}
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n")
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "row", *MEASURES.values()])
        for name in (*scans, ""):
            for row in rows_of(scans):
                values = [numbers.get(f"{key}/{row}{f'_{name}' if name else ''}") for key in MEASURES.values()]
                writer.writerow([name or "all", row, *("" if v is None else f"{v:.6g}" for v in values)])


def rows_of(scans: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows that were measured, in order."""
    return [key.removeprefix("identity/") for key in next(iter(scans.values())) if key.startswith("identity/")]


def summarise_scans(scans: Mapping[str, Mapping[str, Any]]) -> dict[str, float | int]:
    """Per-scan results → flat keys: ``<metric>/<row>`` over all scans, and ``<metric>/<row>_<scan>``.

    Args:
        scans: name → what was measured of it.
    """
    out: dict[str, float | int] = {"count/scans": len(scans)}
    for row in rows_of(scans):
        for measure, key in MEASURES.items():
            values = {name: float(np.mean(record[f"{measure}/{row}"])) for name, record in scans.items()}
            out |= {f"{key}/{row}_{name}": value for name, value in values.items()}
            out[f"{key}/{row}"] = float(np.mean(list(values.values())))
    for name, record in scans.items():
        out |= {f"fit/{key}_{name}": value for key, value in record["fit"].items()}
    for key in next(iter(scans.values()))["fit"]:
        out[f"fit/{key}"] = float(np.mean([record["fit"][key] for record in scans.values()]))
    descriptors = np.array([record["descriptor"] for record in scans.values()], np.float64)
    mine, theirs = np.triu_indices(len(descriptors), 1)
    if len(mine):
        # Without it no distance says anything: how far two persons are apart.
        apart = metrics.identity_distance(descriptors[mine], descriptors[theirs])
        out["identity/faceapi/other_scans"] = float(apart.mean())
    return out


def _measured(
    path: Path,
    model: EditingModel,
    networks: Mapping[str, EditingModel],
    settings: EditSettings,
    head: HeadModel,
    judges: Judges,
    picture: Path,
) -> dict[str, object]:
    alignment = align(read(path), head=head)
    source = source_image(alignment.scan, head, alignment.vertices_mm, model.sample_size)
    images = edited(model, networks, settings, head, alignment, source)
    landmarks = project(source.camera, head.landmarks(alignment.vertices_mm))[:, :2]
    record = {"fit": fit_errors(head, alignment), **measure(images, source, landmarks, judges)}
    save_strips(picture, images)
    return record


def edited(
    model: EditingModel,
    networks: Mapping[str, EditingModel],
    settings: EditSettings,
    head: HeadModel,
    alignment: Alignment,
    source: Rgbd,
) -> dict[str, list[Rgbd]]:
    """Every row's seven images, in the order of `CATEGORIES`.

    Args:
        model: the networks.
        networks: others by row, of `NETWORK_ROWS`.
        settings: how they sample.
        head: that was fitted.
        alignment: the scan's.
        source: the scan as the networks see it.
    """
    wanted = [typical_expression(category, 1.0) for category in CATEGORIES]
    face = rest_face(alignment, head, source.camera)
    edit, transfer = HeadEdit(head), DeformationTransfer(head)
    surface = edit.find(source, head.landmarks(alignment.vertices_mm))
    return {
        "copy_source": [source] * len(wanted),
        "head_edit": edit.edit(surface, wanted),
        "deformation_transfer": transfer.edit(surface, wanted),
        **{
            row: network.edit(source, wanted, replace(settings, steps=NETWORK_ROWS[row]), face=face)
            for row, network in networks.items()
        },
        "model": model.edit(source, wanted, settings, face=face),
        "model_category": model.edit(source, drawn(model, wanted, settings.seed), settings, face=face),
        "model_token": model.edit(source, without_weights(wanted), settings),
        "autoencoder_ceiling": model.reconstruct([source] * len(wanted)),
    }


def fit_errors(head: HeadModel, alignment: Alignment) -> dict[str, float]:
    """Distances between the scan's face and the head, both ways, in mm; of the head model alone and after refinement.

    What lies beyond the face (hair, clothing; what no point of the scan supports) does not count, but may be what is nearest.

    Args:
        head: that was fitted.
        alignment: the scan's.
    """
    scan = alignment.scan
    points = (scan.vertices if isinstance(scan, Mesh) else scan.points)[alignment.on_face].astype(np.float64)
    face = head_region(head).face & ~alignment.inferred
    shown = head.faces[face[head.faces].all(axis=1)]
    out: dict[str, float] = {}
    for name, vertices in (("linear", alignment.fit.vertices_mm), ("refined", alignment.vertices_mm)):
        found = surface_errors(
            points,
            Mesh(vertices=vertices, faces=head.faces),
            shown=shown,
            whole=scan if isinstance(scan, Mesh) else None,
        )
        for way, distances in vars(found).items():
            out[f"{way}_median_mm_{name}"], out[f"{way}_p90_mm_{name}"] = distances.median_mm, distances.p90_mm
    return out


def measure(
    images: Mapping[str, Sequence[Rgbd]], source: Rgbd, landmarks_px: Float[np.ndarray, "68 2"], judges: Judges
) -> dict[str, object]:
    """Everything measured of one scan's rows, by ``<measure>/<row>`` with a value per image that it is of.

    Args:
        images: seven per row, in the order of `CATEGORIES`; ``head_edit`` among them says what no expression moves.
        source: the scan's own image.
        landmarks_px: of the scan.
        judges: the panel.
    """
    count = len(CATEGORIES)
    landmarks = torch.from_numpy(np.repeat(landmarks_px[None].astype(np.float64), count, 0))
    truth = np.repeat(source.depth_mm[None].astype(np.float64), count, 0)
    moved = np.arange(count) != NEUTRAL
    by_model = stacked(images["head_edit"])
    change = np.abs(by_model.depth_mm - by_model.depth_mm[NEUTRAL])
    still = source.mask & by_model.mask & by_model.mask[NEUTRAL] & (change < STILL_MM)
    own = torch.from_numpy(source.rgb).permute(2, 0, 1)[None]
    descriptor = judges.identity.embed(own, landmarks[:1]).numpy()
    out: dict[str, object] = {"descriptor": descriptor[0].tolist()}
    asked = np.arange(count)
    for row, seen in images.items():
        stack = stacked(seen)
        rgb = torch.from_numpy(stack.rgb).permute(0, 3, 1, 2).contiguous()
        for judge, probabilities in judges.expression.probabilities(rgb, landmarks).named().items():
            share = (probabilities / probabilities.sum(dim=1, keepdim=True)).numpy()
            out[f"hit_{judge}/{row}"] = (share.argmax(axis=1) == asked).astype(float).tolist()
            out[f"asked_{judge}/{row}"] = share[asked, asked].tolist()
        distance = metrics.identity_distance(
            judges.identity.embed(rgb, landmarks).numpy(), descriptor.repeat(count, axis=0)
        )
        out[f"identity/{row}"] = distance[moved].tolist()
        depth = answered(stack)
        rest = metrics.depth_errors(depth[NEUTRAL][None], truth[:1], source.mask[None])
        out[f"rest/{row}"] = rest.mae_mm.tolist()
        out[f"still/{row}"] = metrics.depth_errors(depth[moved], truth[moved], still[moved]).mae_mm.tolist()
    return out

"""Real scans: their ground truth with another expression is unknown, so no measure here needs one.

Measured are the distance of the head from the scan (``fit/…``, mm), the identity distance to the scan's own image (beside that of
different persons), the judges' recognition of the expression, and changes where nothing should change: the whole face for
neutral, and forehead, bridge of the nose and ears for other expressions. Every row gets the seven categories with the same
weights as an avatar.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from omote.align.align import Alignment, align
from omote.diffusion.settings import EditSettings
from omote.errors import AlignmentError, ConfigError, ScanError
from omote.evaluation import metrics
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.catalogue import metric_of
from omote.evaluation.comparison import batch, filled, stacked
from omote.evaluation.deformation_transfer import DeformationTransfer
from omote.evaluation.judges.panel import JUDGES
from omote.evaluation.measure import Judges, judged
from omote.evaluation.pictures import save_strips
from omote.evaluation.records import (
    PersonRecords,
    Record,
    Row,
    Table,
    descriptor_by,
    load_records,
    save_records,
    value_of,
)
from omote.evaluation.report import html
from omote.evaluation.report.page import column_title
from omote.evaluation.report.results import is_model, place, title
from omote.evaluation.summary import FLOOR, NEUTRAL, merged, persons_apart, summarise
from omote.evaluation.surfaces import surface_errors
from omote.files import make_folder
from omote.formats.read import read_with_report
from omote.geometry.camera import project
from omote.head.expressions import CATEGORIES, typical_expression
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.pipelines.rgbd import rest_face
from omote.progress import NOTE, Step, Steps
from omote.rendering.source import source_image
from omote.rgbd.model import EditingModel
from omote.rgbd.protocol import StudiedEditor
from omote.studies.base import Results, Work
from omote.studies.edit_methods import HEAD_EDIT, model_images, network_images, surface_images
from omote.studies.persons import load_judges
from omote.studies.suites import ScanSuite, scan_names
from omote.studies.table import AUTOENCODER, CEILING
from omote.types import Mesh, Rgbd, Scan

# Columns of the page, and the measures reported for every scan besides the means.
COLUMNS = tuple(
    map(
        metric_of,
        (
            "depth/mae_mm_rest",
            "depth/mae_mm_unmoved",
            "identity_to_source/faceapi",
            *(f"expression/top1_{judge}" for judge in JUDGES),
            "expression/asked_both",
        ),
    )
)
FIT = tuple(
    metric_of(f"fit/{way}_{name}_mm") for way in ("scan_to_surface", "surface_to_scan") for name in ("median", "p90")
)
MEASURES = tuple(metric.key for metric in (*COLUMNS, *FIT))
FITTED = {"linear": "head model", "refined": "refined"}
NOTES = (
    ("no ground truth", "These people were never captured with another expression: there is no depth or colour error, and no "
    "ceiling of the judges on true pictures. In-model numbers have both."),
    ("expression", "The floor is the copy: a seventh, or the expression that the scan happens to show."),
    ("autoencoder", "The scan's own image through the autoencoder, seven times the same: the cost of its loss alone."),
)  # fmt: skip


def measure_scans(suite: ScanSuite, work: Work) -> Steps[Results]:
    """Measure every scan into ``scans/``; scans without a readable face are listed and counted as skipped.

    Raises:
        ConfigError: none of the scans could be measured.
        JudgeError: the judges are not installed.
        CheckpointError: missing or damaged weights.
    """
    yield Step(stage="load")
    paths = dict(zip(scan_names(suite.scans), suite.scans, strict=True))
    model, networks, head, judges = suite.model(), suite.networks(), shipped_head(), load_judges()
    settings = EditSettings(seed=suite.seed)
    files = {name: work.out / "scans" / f"{name}.json" for name in paths}
    skipped: dict[str, str] = {}
    make_folder(work.out / "scans")

    def make(name: str) -> Steps[None]:
        try:
            scan, report = read_with_report(paths[name])
            for note in report.notes:
                yield Step(stage=NOTE, note=f"{name}: {note}")
            images, found = measured(scan, model, networks, settings, head, judges)
            save_strips(files[name].with_suffix(".png"), images)
            save_records(files[name], found)
        except (ScanError, AlignmentError) as error:
            skipped[name] = str(error)

    yield from work.items({name: [path] for name, path in files.items()}, make, stage="scans")
    scans = {name: load_records(path) for name, path in files.items() if name not in skipped}
    if not scans:
        raise ConfigError(f"scans: none of {len(paths)} could be measured; the first: {skipped[next(iter(paths))]}")
    table = summarise_scans(scans)
    return Results(
        table=table,
        numbers={"count/scans": len(scans), "count/skipped": len(skipped)},
        facts=suite.facts(),
        page=lambda out: write_scan_report(out, table, list(scans), skipped),
    )


def summarise_scans(scans: Mapping[str, PersonRecords]) -> Table:
    """Rows over all scans, and `MEASURES` of each scan.

    Args:
        scans: records by the scan's name.
    """
    persons = list(scans.values())
    table = merged(summarise(persons), persons_apart(persons))
    for name, scan in scans.items():
        table |= {row.under(scan=name): cells for row, cells in summarise([scan], MEASURES).items()}
    return table


def measured(
    scan: Scan,
    model: EditingModel,
    networks: Mapping[str, StudiedEditor],
    settings: EditSettings,
    head: HeadModel,
    judges: Judges,
) -> tuple[dict[Row, list[Rgbd]], PersonRecords]:
    """A scan's rows and their measurements.

    Raises:
        AlignmentError: a scan without a detectable face.
    """
    alignment = align(scan, head=head)
    source = source_image(alignment.scan, head, alignment.vertices_mm, model.sample_size)
    images = edited(model, networks, settings, head, alignment, source)
    landmarks = project(source.camera, head.landmarks(alignment.vertices_mm))[:, :2]
    records = (*fit_errors(head, alignment), *measure(images, source, landmarks, judges))
    return images, person_of(records)


def person_of(records: Sequence[Record]) -> PersonRecords:
    """The records of one scan, with every category at full intensity."""
    count = len(CATEGORIES)
    return PersonRecords(parts={}, category=tuple(range(count)), intensity=(1.0,) * count, records=tuple(records))


def edited(
    model: EditingModel,
    networks: Mapping[str, StudiedEditor],
    settings: EditSettings,
    head: HeadModel,
    alignment: Alignment,
    source: Rgbd,
) -> dict[Row, list[Rgbd]]:
    """Seven images of every row, in the order of `CATEGORIES`.

    Args:
        model: editing model.
        networks: other networks, by row of `NETWORK_ROWS`.
        settings: settings of the sampler.
        head: fitted head model.
        alignment: alignment of the scan.
        source: the scan, as the networks receive it.
    """
    wanted = [typical_expression(category, 1.0) for category in CATEGORIES]
    face = rest_face(alignment, head, source.camera)
    landmarks_mm = head.landmarks(alignment.vertices_mm)
    images = surface_images(source, landmarks_mm, wanted, HeadEdit(head), DeformationTransfer(head))
    for row, network in networks.items():
        images |= network_images(network, row, source, wanted, settings, face)
    images |= model_images(model, source, wanted, settings, face)
    return {**images, AUTOENCODER: model.reconstruct([source] * len(wanted))}


def fit_errors(head: HeadModel, alignment: Alignment) -> Iterator[Record]:
    """Distances (mm) between the scan's face and the head in both directions, for the fit and after refinement.

    Surface beyond the face (hair, clothing, vertices without scan points) is not measured, but may be the nearest surface.

    Args:
        head: fitted head model.
        alignment: alignment of the scan.
    """
    scan = alignment.scan
    points = (scan.vertices if isinstance(scan, Mesh) else scan.points)[alignment.on_face].astype(np.float64)
    face = head_region(head).face & ~alignment.inferred
    shown = head.faces[face[head.faces].all(axis=1)]
    for name, vertices in (("linear", alignment.fit.vertices_mm), ("refined", alignment.vertices_mm)):
        found = surface_errors(
            points,
            Mesh(vertices=vertices, faces=head.faces),
            shown=shown,
            whole=scan if isinstance(scan, Mesh) else None,
        )
        for way, distances in vars(found).items():
            for key, value in (("median", distances.median_mm), ("p90", distances.p90_mm)):
                yield Record(row=Row(name), measure=f"fit/{way}_{key}_mm", values=np.array([value]))


def measure(
    images: Mapping[Row, Sequence[Rgbd]], source: Rgbd, landmarks_px: Float[np.ndarray, "68 2"], judges: Judges
) -> Iterator[Record]:
    """All measurements of one scan's rows.

    Args:
        images: seven images per row, in the order of `CATEGORIES`; ``head_edit`` among them defines the unmoving region.
        source: the scan's own image.
        landmarks_px: landmarks of the scan.
        judges: panel of judges.
    """
    count = len(CATEGORIES)
    landmarks = torch.from_numpy(np.repeat(landmarks_px[None].astype(np.float64), count, 0))
    own = stacked([source] * count)
    by_model = stacked(images[HEAD_EDIT])
    change = np.abs(by_model.depth_mm - by_model.depth_mm[NEUTRAL])
    still = own.mask & by_model.mask & by_model.mask[NEUTRAL] & (change < metrics.STILL_MM)
    descriptor = judges.identity.embed(batch(own)[:1], landmarks[:1]).numpy()
    yield Record(row=CEILING, measure=descriptor_by("faceapi"), values=descriptor.astype(np.float64))
    for row, seen in images.items():
        shown = stacked(seen)
        yield from judged(row, batch(shown), landmarks, CATEGORIES, judges.expression)
        distance = metrics.identity_distance(
            judges.identity.embed(batch(shown), landmarks).numpy(), descriptor.repeat(count, axis=0)
        )
        depth, truth = filled(shown).depth_mm, own.depth_mm.astype(np.float64)
        rest = metrics.depth_errors(depth[[NEUTRAL]], truth[[NEUTRAL]], own.mask[[NEUTRAL]])
        for key, values in (
            ("identity_to_source/faceapi", distance),
            ("depth/mae_mm_rest", rest.mae_mm),
            ("depth/mae_mm_unmoved", metrics.depth_errors(depth, truth, still).mae_mm),
        ):
            yield Record(row=row, measure=key, values=values)


def write_scan_report(out: Path, table: Table, scans: Sequence[str], skipped: Mapping[str, str]) -> None:
    """Write ``report.html``.

    Args:
        out: result folder.
        table: rows over all scans, and per ``scan``.
        scans: names of the measured scans.
        skipped: reasons by the names of the skipped scans.

    Raises:
        OutputError: it cannot be written.
    """
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    html.write(out / "report.html", "omote: real scans", _sections(out, table, scans, skipped, run))


def _sections(
    out: Path, table: Table, scans: Sequence[str], skipped: Mapping[str, str], run: Mapping[str, Any]
) -> Iterator[str]:
    yield "<h1>Real scans</h1>"
    yield f'<p class="soft">{len(scans)} scans, {len(skipped)} skipped.</p>'
    if skipped:
        yield html.definitions(skipped.items())
    rows = sorted((row for row in table if not row.at and COLUMNS[0].key in table[row]), key=place)
    yield _table(table, rows)
    if (apart := table.get(Row(), {}).get("identity_apart/faceapi")) is not None:
        yield f'<p class="soft">Identity distance of different scans: {value_of(apart):.3f}.</p>'
    yield "<h2>Distance of the head from the scan</h2>"
    fits = [(f"{scan}, {said}", table[Row(kind).under(scan=scan)]) for scan in scans for kind, said in FITTED.items()]
    yield html.table(
        ["scan", *map(column_title, FIT)],
        [("", [escape(name), *(html.number(value_of(cells[m.key]), m.digits) for m in FIT)]) for name, cells in fits],
    )
    for name in scans:
        yield f"<h2>{escape(name)}</h2>"
        yield f'<p class="soft">Columns: {", ".join(CATEGORIES)}.</p>'
        yield f'<div class="scroll">{html.picture(out / "scans" / f"{name}.png", f"every row of {name}")}</div>'
        yield _table(table, [row.under(scan=name) for row in rows])
    yield "<h2>Definitions</h2>"
    yield html.definitions([*((metric.title, metric.definition) for metric in COLUMNS), *NOTES])
    yield "<h2>Versions and machine</h2>"
    yield html.facts(run)


def _table(table: Table, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        cells = [html.number(value_of(table[row][m.key]), m.digits) for m in COLUMNS]
        kind = "model" if is_model(row) else "bound" if row.name in (FLOOR, AUTOENCODER.name) else "baseline"
        name = "autoencoder of the scan" if row == AUTOENCODER else title(row)
        lines.append((kind, [escape(name), *cells]))
    return html.table(["row", *map(column_title, COLUMNS)], lines)

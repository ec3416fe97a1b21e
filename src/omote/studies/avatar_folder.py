"""The suite of avatars on a user's own meshes: one head at rest and with expressions, all in one frame.

The weights of a captured expression are unknown, so they are fitted to it, and every method gets the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from omote.align.align import align, transformed
from omote.errors import ConfigError
from omote.evaluation.records import PersonRecords, load_records, save_records
from omote.evaluation.summary import merged, summarise
from omote.formats.read import FORMATS, read
from omote.head.expressions import expressions_of
from omote.head.shipped import shipped_head
from omote.pipelines.rgbd import RgbdPipeline
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step, Steps, finish
from omote.rgbd.protocol import Editor
from omote.runs import Stopwatch
from omote.studies.avatar_methods import MadeMeshes, by_weights
from omote.studies.avatar_page import write_avatar_page
from omote.studies.avatars import AvatarSuite
from omote.studies.base import Results, Work
from omote.types import Expression, Mesh

REST = "neutral"


def meshes_of(folder: Path) -> dict[str, Path]:
    """The folder's meshes by name, with the one at rest first.

    Raises:
        ConfigError: no such folder, no mesh at rest, or none with an expression.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in FORMATS) if folder.is_dir() else []
    found = {path.stem: path for path in files}
    if REST not in found or len(found) < 2:
        what = ", ".join(found) or "no meshes"
        raise ConfigError(f"{folder}: expected meshes neutral.* and one per expression, got {what}; add them")
    return {REST: found.pop(REST), **found}


def measure_folder(suite: AvatarSuite, folder: Path, work: Work) -> Steps[Results]:
    """Measure the avatar of the folder's neutral against each of its expressions.

    Raises:
        ScanError: a file cannot be read.
        AlignmentError: a scan without a detectable face.
        ConfigError: a file is not a mesh, or has other triangles than the mesh at rest.
    """
    yield Step(stage="load")
    meshes = {name: _mesh(path) for name, path in meshes_of(folder).items()}
    shape = meshes[REST].faces.shape
    if odd := [name for name, mesh in meshes.items() if mesh.faces.shape != shape]:
        raise ConfigError(f"{odd[0]}: expected the {shape[0]} triangles of neutral, got {len(meshes[odd[0]].faces)}")
    model = suite.model()
    names = [name for name in meshes if name != REST]

    def measured(_: str) -> PersonRecords:
        return _measured(meshes, names, model, suite.seed)

    records = yield from work.kept("avatars", ["folder"], measured, save_records, load_records)
    person = records["folder"]
    alone = [
        {row.under(expression=name): cells for row, cells in summarise([_only(person, k)]).items()}
        for k, name in enumerate(names)
    ]
    table = merged(summarise([person]), *alone)
    return Results(table=table, page=lambda out: write_avatar_page(out, table, f"Avatar of {folder.resolve().name}"))


def _mesh(path: Path) -> Mesh:
    scan = read(path)
    if not isinstance(scan, Mesh):
        raise ConfigError(f"{path}: expected a mesh, got {type(scan).__name__}; give its triangles")
    return scan


def _measured(meshes: Mapping[str, Mesh], names: list[str], model: Editor, seed: int) -> PersonRecords:
    head = shipped_head()
    alignment = align(meshes[REST], head=head)
    steps = RgbdPipeline(model, head).made(alignment, expressions_of(("neutral",)), AvatarSettings(), watch=Stopwatch())
    made = finish(steps, None)
    in_frame = {name: transformed(mesh, alignment.canonical_from_scan) for name, mesh in meshes.items()}
    vertices = {
        name: np.asarray(mesh.vertices, np.float64) for name, mesh in in_frame.items() if isinstance(mesh, Mesh)
    }
    wanted = [
        Expression(category="happy", arkit=align(meshes[name], head=head).fit.expression.astype(np.float32))
        for name in names
    ]

    true = np.stack([vertices[name] for name in (REST, *names)])
    avatar = MadeMeshes.of(made, alignment)
    found = by_weights(avatar, made, alignment, true, meshes[REST].faces.astype(np.int64), wanted, model, seed)
    return PersonRecords(parts={}, category=(1,) * len(names), intensity=(1.0,) * len(names), records=tuple(found))


def _only(person: PersonRecords, index: int) -> PersonRecords:
    """The records of one expression."""
    records = tuple(replace(r, values=r.values[index : index + 1]) for r in person.records)
    return PersonRecords(parts={}, category=(1,), intensity=(1.0,), records=records)

"""Measurement of completions of one head, and pictures of them (`omote.studies.missing_depth`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from omote.align.align import align
from omote.completion.base import CompletedHead
from omote.completion.missing import MissingCase, Subject, missing_case, subject_of
from omote.datasets.population import draw_person
from omote.errors import AlignmentError, ScanError
from omote.evaluation.completed import calibration, in_both, missing_from, surface_distance
from omote.evaluation.pictures import error_picture, save_strips
from omote.evaluation.records import Row
from omote.evaluation.report import html
from omote.files import make_folder
from omote.formats.read import read
from omote.geometry.camera import rgbd_points, transform
from omote.geometry.cloud import closest_on_mesh, sample_surface
from omote.geometry.mesh import vertex_normals
from omote.geometry.rig import Rig
from omote.head.correspondence import in_topology_of
from omote.head.region import head_region
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.rendering.scans import render_mesh, render_points
from omote.studies.base import Record, Work
from omote.studies.completion_methods import completions, exported, parameters
from omote.studies.missing_depth import AGAINST, SURFACE, MissingDepth
from omote.studies.missing_depth_avatars import AvatarMeter
from omote.studies.training_cost import training_hours
from omote.types import Mesh, PointCloud, Rgbd

# Views that no scan is made from and no completion is trained with.
HELD_OUT = Rig(
    yaw_deg=(20.0, -30.0, 55.0, -60.0, 0.0), pitch_deg=(10.0, 5.0, 0.0, 8.0, -30.0), distance_mm=650.0, field_mm=290.0
)
VIEW_PX = 96
NUM_POINTS = 8000
HEAD_MM = 10.0  # a scan's surface farther from the refined head is hair or clothing


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """A head that is known whole.

    Attributes:
        subject: how cameras see it.
        mesh: its surface, in the subject's frame.
        points_mm: points of the surface that are measured.
        in_correspondence: whether the subject's vertices are the true ones.
        family: name of the person's head family; empty for a scan.
    """

    subject: Subject
    mesh: Mesh
    points_mm: Float[np.ndarray, "n 3"]
    in_correspondence: bool
    family: str


class Meter:
    """Completions and head models, loaded once for all heads.

    Raises:
        CheckpointError: damaged weights of a completion.
    """

    def __init__(self, study: MissingDepth) -> None:
        self.study = study
        self.heads = population_heads(study.ict)
        self.head = self.heads[0]
        self.models = [in_topology_of(head, self.head) for head in self.heads]
        self.completions = completions(self.head, study.networks)
        self._avatars: AvatarMeter | None = None
        region = head_region(self.head)
        self.outer = region.exterior | region.ear
        self.faces: Int[np.ndarray, "f 3"] = self.head.faces[self.outer[self.head.faces].all(axis=1)].astype(np.int64)

    def parameters(self) -> dict[str, int]:
        """Trained parameters of every completion."""
        return {name: parameters(completion) for name, completion in self.completions.items()}

    def hours(self) -> dict[str, float]:
        """Hours of training of every completion of which they are known."""
        out = {}
        for name in self.completions:
            folder = exported(name, self.study.networks)
            if folder is not None and (hours := training_hours(folder)) is not None:
                out[name] = hours
        return out

    def avatars(self, name: str) -> Record:
        """Avatars of a person by every completion, of all kinds at the greatest strength."""
        if self._avatars is None:
            by = self.study.avatars_by or tuple(self.completions)
            chosen = {name: made for name, made in self.completions.items() if name in by}
            self._avatars = AvatarMeter(self.study.model(), self.heads, chosen)
        index, strength = int(name), self.study.strengths[-1]
        person, truth = draw_person(self.study.unseen(), index, self.heads), self.of_person(index)
        cases: dict[str, dict[str, dict[str, float]]] = {}
        for kind in self.study.kinds:
            try:
                case = self.case(truth, kind, strength, index)
            except AlignmentError:
                case = None
            cases[f"{kind}_{strength}"] = {} if case is None else self._avatars.measured(person, case)
        return {"head": truth.family, "cases": cases}

    def person(self, name: str) -> Record:
        """Errors of a person at rest."""
        return self._record(self.of_person(int(name)), int(name))

    def scan(self, name: str) -> Record:
        """Errors of a real scan."""
        return self._record(self.of_scan(self.study.scan_paths()[name]), 0)

    def of_person(self, index: int) -> Truth:
        """A person of the test split."""
        person = draw_person(self.study.unseen(), index, self.heads)
        subject = subject_of(person, self.heads, self.models)
        vertices = subject.vertices_mm.astype(np.float64)
        points, _, _, _ = sample_surface(vertices, self.faces, NUM_POINTS, np.random.default_rng(index))
        return Truth(
            subject=subject,
            mesh=Mesh(vertices=vertices, faces=self.head.faces.astype(np.int64)),
            points_mm=points,
            in_correspondence=True,
            family=self.heads[person.head].name,
        )

    def of_scan(self, path: Path) -> Truth:
        """A whole real scan; its landmarks are those of the head aligned to all of it.

        Raises:
            ScanError: it cannot be read, or is no mesh.
            AlignmentError: no face is found.
        """
        found = align(read(path), head=self.head)
        mesh = found.scan
        if not isinstance(mesh, Mesh):
            raise ScanError(f"{path}: expected a mesh, whose whole surface is the truth, got points; leave it out")
        points, _, _, _ = sample_surface(mesh.vertices, mesh.faces, 4 * NUM_POINTS, np.random.default_rng(0))
        away, _, _ = closest_on_mesh(points, found.vertices_mm.astype(np.float64), self.faces)
        return Truth(
            subject=Subject(
                image=lambda camera: render_mesh(mesh, camera), vertices_mm=found.vertices_mm.astype(np.float32)
            ),
            mesh=mesh,
            points_mm=points[away < HEAD_MM],
            in_correspondence=False,
            family="",
        )

    def items(self) -> list[tuple[str, str]]:
        """Kinds and strengths to measure."""
        return [(kind, strength) for kind in self.study.kinds for strength in self.study.strengths]

    def _record(self, truth: Truth, index: int) -> Record:
        cases = {f"{kind}_{strength}": self._measured(truth, kind, strength, index) for kind, strength in self.items()}
        return {"head": truth.family, "cases": cases}

    def case(self, truth: Truth, kind: str, strength: str, index: int) -> MissingCase:
        """A partial scan; the seed is the person's and the study's."""
        return missing_case(truth.subject, kind, strength, self.head, seed=1000 * self.study.seed + index)

    def _measured(self, truth: Truth, kind: str, strength: str, index: int) -> dict[str, dict[str, float | None]]:
        """Metrics by completion; empty if no head could be fitted."""
        try:
            case = self.case(truth, kind, strength, index)
        except AlignmentError:
            return {}
        out: dict[str, dict[str, float | None]] = {}
        for name, completion in self.completions.items():
            began = perf_counter()
            whole = completion(case.partial)
            seconds = perf_counter() - began
            values = {**self._errors(whole, truth, case), "time_s/completion": seconds}
            # JSON has no NaN.
            out[name] = {key: None if value != value else value for key, value in values.items()}
        return out

    def _errors(self, whole: CompletedHead, truth: Truth, case: MissingCase) -> dict[str, float]:
        scan, motion = case.partial.points_mm, case.canonical_from_world
        points = transform(motion, truth.points_mm)
        missing = missing_from(points, scan)
        out = {"completion/missing_share": float(missing.mean())}

        def both(what: str, seen: float, lost: float) -> None:
            out[f"completion/{what}_mm_seen"], out[f"completion/{what}_mm_missing"] = seen, lost

        made = whole.vertices_mm
        both("surface", *in_both(surface_distance(points, made, self.faces), missing))
        vertices = case.truth_mm[self.outer]
        if truth.in_correspondence:
            apart = made[self.outer] - vertices
            both("vertex", *in_both(np.linalg.norm(apart, axis=1), missing_from(vertices, scan)))
            known = np.isfinite(made).all(axis=1)
            normals = vertex_normals(np.where(known[:, None], made, 0.0), self.head.faces)[self.outer]
            told = calibration((apart * normals).sum(axis=1), whole.sigma_mm[self.outer])
            out |= {f"completion/{key}": value for key, value in told.items()}

        errors, sigma, lacking = self._depths(whole, truth, case)
        both("depth", *in_both(errors, lacking))
        told = calibration(errors, sigma)
        out |= {f"completion/{key}_depth": told[key] for key in ("within_1_sigma", "within_2_sigma")}
        return out

    def _depths(self, whole: CompletedHead, truth: Truth, case: MissingCase) -> tuple[Any, Any, Any]:
        """Errors of depth, their σ, and which lie on missing surface, over the pixels of both surfaces in all held-out views."""
        moved = replace(truth.mesh, vertices=transform(case.canonical_from_world, truth.mesh.vertices))
        errors, sigma, lacking = [], [], []
        for camera in HELD_OUT.cameras(VIEW_PX):
            true, made = render_mesh(moved, camera), whole.depth(self.head, camera)
            mask = true.mask & made.mask
            errors.append((made.depth_mm - true.depth_mm)[mask].astype(np.float64))
            sigma.append(made.sigma_mm[mask])
            places, _ = rgbd_points(replace(true, mask=mask))
            lacking.append(missing_from(places, case.partial.points_mm))
        return np.concatenate(errors), np.concatenate(sigma), np.concatenate(lacking)

    def strips(self, truth: Truth, case: MissingCase) -> dict[Row, list[Rgbd]]:
        """The scan and the true head in the held-out views, and every completion's error of depth."""
        moved = replace(truth.mesh, vertices=transform(case.canonical_from_world, truth.mesh.vertices))
        cameras = HELD_OUT.cameras(VIEW_PX)
        cloud = PointCloud(points=case.partial.points_mm, normals=case.partial.normals, colors=case.partial.colors)
        true = [render_mesh(moved, camera) for camera in cameras]
        out = {Row("scan"): [render_points(cloud, camera) for camera in cameras], Row("true head"): true}
        for name, completion in self.completions.items():
            whole = completion(case.partial)
            out[Row(name)] = [self._error(whole, image) for image in true]
        return out

    def _error(self, whole: CompletedHead, true: Rgbd) -> Rgbd:
        made = whole.depth(self.head, true.camera)
        image = replace(true, depth_mm=made.depth_mm.astype(np.float32), mask=made.mask)
        return replace(image, rgb=error_picture(image, true).astype(np.float32))

    def page(self, out: Path) -> None:
        """Write ``report.html``: the figure's examples."""
        body = [
            "<h1>Missing depth: examples</h1>",
            f"<p>Best, median and worst person of each kind by the surface error of {AGAINST} where the scan lacks surface. "
            "Completions: error of depth from 0 (black) to 10 mm (pale).</p>",
        ]
        for path in sorted((out / "examples").glob("*.png")):
            body += [f"<h2>{escape(path.stem.replace('_', ', '))}</h2>", html.picture(path, path.stem)]
        html.write(out / "report.html", "omote: missing depth", body)


def write_examples(work: Work, meter: Meter, persons: Mapping[str, Record]) -> Steps[None]:
    """Pictures of the best, median and worst person of every kind at its greatest strength, by `AGAINST`'s surface error."""
    make_folder(work.out / "examples")
    strength = meter.study.strengths[-1]
    for kind in meter.study.kinds:
        found = {name: person["cases"][f"{kind}_{strength}"] for name, person in persons.items()}
        errors = {name: case[AGAINST][SURFACE] for name, case in found.items() if case}
        ranked = sorted((name for name, error in errors.items() if error is not None), key=lambda name: errors[name])
        places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1} if ranked else {}
        for place, at in places.items():
            path = work.out / "examples" / f"{kind}_{strength}_{place}_{ranked[at]}.png"
            if path.exists() or ranked[at] in [ranked[k] for k in list(places.values())[: list(places).index(place)]]:
                continue
            yield Step(stage="examples", note=path.stem)
            truth = meter.of_person(int(ranked[at]))
            case = meter.case(truth, kind, strength, int(ranked[at]))
            save_strips(path, meter.strips(truth, case))

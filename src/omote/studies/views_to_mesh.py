"""Views → mesh on unseen persons: `omote evaluate to3d`.

Rows are networks at several stages (mean face, ridge regression, coarse face, last pass), under each kind of views: true renders,
heads exactly 2° and 3 mm out of pose, colour without depth, and samples of a candidate's diffusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from omote.config import Range
from omote.evaluation.records import Row, Table
from omote.evaluation.statistics import Interval, bootstrap_mean, paired_test
from omote.progress import Steps
from omote.studies.base import FREE, PersonStudy, Record, Results, Work

POSE_DEG, POSE_MM = 2.0, 3.0
MEAN, RIDGE, COARSE = Row("mean_face"), Row("ridge"), Row("coarse")


@dataclass(frozen=True, kw_only=True)
class ViewsToMeshSuite(PersonStudy):
    """Views → mesh: errors per vertex and of the surface, against ridge regression and the mean face.

    Attributes:
        networks: folders of exported networks (export/to_3d of a run).
        candidate: networks of candidate 1 or 2, for samples and for networks that read latents: the true latents are diffused to
            ``time`` and denoised in one step, so that the sample is of the true face, and only the errors are generated.
        time: how far the true latents are diffused, 0 to 1, where 1 leaves noise alone.
    """

    NAME = "to3d"
    TINY: ClassVar[Mapping[str, Any]] = {"persons": 2}

    persons: Annotated[int, Range(1), FREE] = 200
    networks: tuple[Path, ...]
    candidate: Path | None = None
    time: Annotated[float, Range(0.01, 1)] = 0.5

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the networks."""
        from omote.rgbd.weights import fingerprint

        folders = [*self.networks, *([self.candidate] if self.candidate is not None else [])]
        return {folder.parent.parent.name or folder.name: fingerprint(folder) for folder in folders}

    def run(self, work: Work) -> Steps[Results]:
        """Measure each person at rest and with an expression."""
        meter = _Meter(self)
        found = yield from work.records("persons", self.names(), meter.measure)
        table, notes = summarised(list(found.values()))
        return Results(table=table, notes=notes)


class _Meter:
    """Networks, head models and the map of the face, loaded once for all persons."""

    def __init__(self, suite: ViewsToMeshSuite) -> None:
        from omote.engine.weights import load_pretrained
        from omote.head.shipped import population_heads
        from omote.multiview.basis import face_families
        from omote.multiview.face_map import face_map
        from omote.multiview.latents_to_3d import LatentsToMesh
        from omote.multiview.model import load_view_editor
        from omote.multiview.to_3d import ViewsToMesh
        from omote.multiview.volume import VolumeToMesh

        self.suite = suite
        self.heads = population_heads(suite.ict)
        self.face = face_map(self.heads[0])
        self.tensors = self.face.tensors()
        self.families = face_families(self.heads, self.face)
        self.networks = {
            folder.parent.parent.name or folder.name: load_pretrained(
                ViewsToMesh, folder, VolumeToMesh, LatentsToMesh, hint="train it with to3d-cpu"
            ).eval()
            for folder in suite.networks
        }
        self.editor: Any = None if suite.candidate is None else load_view_editor(suite.candidate, self.heads[0])
        self.rig = next(iter(self.networks.values())).rig
        self.size = int(next(iter(self.networks.values())).config.sample_size)

    def measure(self, name: str) -> Record:
        """Errors of a person by kind of views and row."""
        from dataclasses import replace

        from omote.datasets.view_shards import ViewShard, render_views
        from omote.multiview.data import sets_of
        from omote.rgbd.codec import NUM_CHANNELS

        population = replace(self.suite.unseen(), rig=self.rig, size=self.size, num_images=2)
        turned = replace(population, pose_deg=POSE_DEG, pose_mm=POSE_MM)
        out: dict[str, Any] = {"seconds": {}}
        kinds = {"registered": (population, False), "out_of_pose": (turned, True)}
        for kind, (config, exact) in kinds.items():
            shard = ViewShard(**render_views(config, [int(name)], self.heads, exact_pose=exact))
            sets = sets_of(shard, [(0, 0), (0, 1)])
            out["head"] = self.families[int(shard.head[0])].name
            z = None if self.editor is None else self._encoded(sets.x)
            out[kind] = self._errors(sets, sets.x, z, depth=True, seconds=out["seconds"])
            if kind == "registered":
                out["colour"] = self._errors(sets, sets.x, None, depth=False)
                if self.editor is not None:
                    z = self._sampled(sets, int(name))
                    views = self.editor.first_stage.decoded(z.flatten(0, 1), sets.x.flatten(0, 1)).view_as(sets.x)
                    own_depth = len(self.editor.first_stage.channels) == NUM_CHANNELS
                    out["sampled"] = self._errors(sets, views, z, depth=own_depth)
        return out

    def _encoded(self, x: Any) -> Any:
        import torch

        with torch.no_grad():
            return self.editor.first_stage.encoded(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _sampled(self, sets: Any, seed: int) -> Any:
        """Latents of both faces as the denoiser gives them back from the true ones diffused to ``time``."""
        import torch

        from omote.diffusion.flow import initial_noise, noised
        from omote.head.expressions import CATEGORIES
        from omote.types import Expression

        editor = self.editor
        with torch.no_grad():
            true, source = self._encoded(sets.x), editor.source_latents(sets.x[0])
            wanted = [
                Expression(category=CATEGORIES[int(category)], intensity=float(intensity))
                for category, intensity in zip(sets.category, sets.intensity, strict=True)
            ]
            conditions = editor.conditions(sets.x[0], source, wanted)
            z = (true - true[:1]) / editor.delta_std if editor.denoiser.diffuses_change else true
            noise = initial_noise(tuple(source.shape), [seed + i for i in range(len(z))])
            t = torch.full((len(z),), self.suite.time)
            z_t = noised(z, noise, t)
            z = z_t - self.suite.time * editor.denoiser.velocity(z_t, t, conditions)
            return source + z * editor.delta_std if editor.denoiser.diffuses_change else z

    def _errors(
        self, sets: Any, x: Any, z: Any, *, depth: bool, seconds: dict[str, float] | None = None
    ) -> dict[str, Any]:
        """Row → metric → mean over the person's two faces, from views ``x`` or, for networks that read latents, from ``z``."""
        from time import perf_counter

        import torch

        from omote.evaluation.surfaces import vertex_errors
        from omote.multiview.basis import NUM_POSE
        from omote.multiview.latents_to_3d import LatentsToMesh
        from omote.multiview.to_3d import without_depth

        truth, rest = sets.posed(self.families).numpy(), self._rest(sets)
        out: dict[str, Any] = {}
        for name, network in self.networks.items():
            latents = isinstance(network, LatentsToMesh)
            if latents and z is None:
                continue
            given = torch.full((len(x),), depth or latents)
            read = z if latents else x
            with torch.no_grad():
                began = perf_counter()
                guesses = network(read, self.tensors, given=given)
                if seconds is not None:
                    seconds[name] = (perf_counter() - began) / len(x)
                views = network.regressed_views(read)
                ridge = network.basis(network.regressed(without_depth(views, given), given))
                mean = network.basis(torch.zeros(len(x), network.ridge.shape[2]))
            assert network.ridge.shape[2] > NUM_POSE
            rows = {name: guesses[-1].vertices_mm, f"coarse_{name}": guesses[0].vertices_mm}
            if not latents:
                rows |= {str(RIDGE): ridge, str(MEAN): mean}
            for row, vertices in rows.items():
                both = [
                    vertex_errors(made, true, still, self.face.faces, self.face.region)
                    for made, true, still in zip(vertices.numpy(), truth, rest, strict=True)
                ]
                # Only the face with an expression has moving parts.
                out[row] = {key: float(np.nanmean([errors[key] for errors in both])) for key in both[0]}
        return out

    def _rest(self, sets: Any) -> Any:
        """The persons at rest, in the pose of each face."""
        from dataclasses import replace

        import torch

        return replace(sets, arkit=torch.zeros_like(sets.arkit)).posed(self.families).numpy()


def summarised(found: Sequence[Record]) -> tuple[Table, Mapping[Row, Mapping[str, str | float]]]:
    """Means over persons and over each head family, and paired tests against ridge regression."""
    table: dict[Row, dict[str, Interval | float]] = {}
    notes: dict[Row, dict[str, str | float]] = {}
    families = sorted({str(person["head"]) for person in found})
    for kind in (key for key in found[0] if key not in ("seconds", "head")):
        for name in found[0][kind]:
            for head in (None, *families):
                chosen = [person for person in found if head in (None, person["head"])]
                row = Row(name).under(views=kind) if head is None else Row(name).under(views=kind, head=head)
                cells = {key: np.array([p[kind][name][key] for p in chosen]) for key in found[0][kind][name]}
                table[row] = {key: bootstrap_mean(values) for key, values in cells.items()}
                if str(RIDGE) in found[0][kind] and name != str(RIDGE) and len(chosen) > 1:
                    ridge = np.array([p[kind][str(RIDGE)]["mesh/vertex_mm"] for p in chosen])
                    notes[row] = {"p_vertex_vs_ridge": paired_test(cells["mesh/vertex_mm"], ridge).p_value}
    for name in found[0]["seconds"]:
        seconds = np.array([person["seconds"][name] for person in found])
        table.setdefault(Row(name).under(views="registered"), {})["time_s/mesh"] = float(np.median(seconds))
    return table, notes

"""Views → mesh on unseen persons: `omote evaluate to3d`.

Rows are networks at several stages (mean face, ridge regression, coarse face, last pass), under each kind of views: true renders,
heads exactly 2° and 3 mm out of pose, colour without depth, and views decoded from noised latents of a first stage.
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
        first_stage: folder of a first stage of views, for decoded views and for networks that read latents.
        latent_noise: standard deviations of the noise on the latents of decoded views.
    """

    NAME = "to3d"
    TINY: ClassVar[Mapping[str, Any]] = {"persons": 2}

    persons: Annotated[int, Range(1), FREE] = 200
    networks: tuple[Path, ...]
    first_stage: Path | None = None
    latent_noise: Annotated[float, Range(0, 2)] = 0.3

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the networks."""
        from omote.rgbd.weights import fingerprint

        folders = [*self.networks, *([self.first_stage] if self.first_stage is not None else [])]
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
        from omote.multiview.first_stage import ViewAutoencoder
        from omote.multiview.latents_to_3d import LatentsToMesh
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
        self.first_stage: Any = None
        if suite.first_stage is not None:
            self.first_stage = load_pretrained(ViewAutoencoder, suite.first_stage).eval()
        self.rig = next(iter(self.networks.values())).rig
        self.size = int(next(iter(self.networks.values())).config.sample_size)

    def measure(self, name: str) -> Record:
        """Errors of a person by kind of views and row."""
        from dataclasses import replace

        from omote.datasets.view_shards import ViewShard, render_views
        from omote.multiview.data import sets_of

        population = replace(self.suite.unseen(), rig=self.rig, size=self.size, num_images=2)
        turned = replace(population, pose_deg=POSE_DEG, pose_mm=POSE_MM)
        out: dict[str, Any] = {"seconds": {}}
        kinds = {"registered": (population, False), "out_of_pose": (turned, True)}
        for kind, (config, exact) in kinds.items():
            shard = ViewShard(**render_views(config, [int(name)], self.heads, exact_pose=exact))
            sets = sets_of(shard, [(0, 0), (0, 1)])
            out["head"] = self.families[int(shard.head[0])].name
            out[kind] = self._errors(sets, sets.x, depth=True, seconds=out["seconds"])
            if kind == "registered":
                out["colour"] = self._errors(sets, sets.x, depth=False)
                if self.first_stage is not None:
                    out["decoded"] = self._errors(sets, self._decoded(sets.x, int(name)), depth=True)
        return out

    def _decoded(self, x: Any, seed: int) -> Any:
        import torch

        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            z = self.first_stage.encoded(x.flatten(0, 1))
            z = z + self.suite.latent_noise * torch.randn(z.shape, generator=generator)
            return self.first_stage.decoded(z).view_as(x)

    def _errors(self, sets: Any, x: Any, *, depth: bool, seconds: dict[str, float] | None = None) -> dict[str, Any]:
        """Row → metric → mean over the person's two faces."""
        from time import perf_counter

        import torch

        from omote.evaluation.surfaces import vertex_errors
        from omote.multiview.basis import NUM_POSE
        from omote.multiview.latents_to_3d import LatentsToMesh
        from omote.multiview.to_3d import without_depth
        from omote.rgbd.codec import NUM_CHANNELS

        truth, rest = sets.posed(self.families).numpy(), self._rest(sets)
        out: dict[str, Any] = {}
        for name, network in self.networks.items():
            latents = isinstance(network, LatentsToMesh)
            if latents and (self.first_stage is None or not depth):
                continue
            has_depth = depth and (
                self.first_stage is None or x is sets.x or len(self.first_stage.channels) == NUM_CHANNELS
            )
            given = torch.full((len(x),), has_depth)
            with torch.no_grad():
                read = self.first_stage.encoded(x.flatten(0, 1)).unflatten(0, x.shape[:2]) if latents else x
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

"""Candidate 1: scan → V images → multi-view diffusion conditioned on depth and text → V images → CNN → 3D.

Candidate 2 (`omote.pipelines.latent_views`) differs in the networks at both ends only.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from omote.completion.aligned import AlignedCompletion
from omote.errors import ConfigError
from omote.head.model import HeadModel
from omote.lift.offsets import register_offsets
from omote.lift.register import Registered
from omote.multiview.model import ViewEditor, ViewEditSettings
from omote.multiview.views import disagreement, views_of
from omote.pipelines.base import NEUTRAL, AvatarPipeline, Expressed, Neutral
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step, Steps
from omote.rendering.zbuffer import rasterize
from omote.rgbd.codec import NUM_CHANNELS, pack_images, unpack_images
from omote.runs import Stopwatch, Value
from omote.types import Camera, Expression, Rgbd


class MultiviewPipeline(AvatarPipeline):
    """Candidate 1: edits of several registered views.

    Args:
        editor: networks of the candidate.
        head: output head model, whose vertices the editor's face lies on.
        complete: as of `AvatarPipeline`.

    Raises:
        ConfigError: a head model other than the editor's.
    """

    def __init__(self, editor: ViewEditor, head: HeadModel, complete: AlignedCompletion | None = None) -> None:
        super().__init__(head, complete)
        self.editor = editor
        if editor.face.ids.max() >= head.num_vertices or head.name != "omote":
            raise ConfigError(
                f"head: candidates of several views make the shipped head, got {head.name!r}; leave --head out, or give "
                "--pipeline rgbd"
            )

    def expressed(
        self,
        neutral: Neutral,
        wanted: Sequence[Expression],
        settings: AvatarSettings,
        *,
        given: Set[str],
        watch: Stopwatch,
    ) -> Steps[Expressed]:
        """Generate V views per expression, read the face from them with a CNN, and move the head with the face."""
        editor, head = self.editor, self.head
        yield Step(stage="source", note=f"{editor.rig.num_views} views")
        with watch("source"):
            views = views_of(
                neutral.alignment.scan, editor.rig, editor.sample_size, head=head, vertices_mm=neutral.scanned_mm
            )

        yield Step(stage="edit", note=f"expressions: {len(wanted)}, steps: {settings.steps}")
        with watch("edit"):
            edits = [e for e in wanted if e.category != NEUTRAL]
            rest = Expression(category=NEUTRAL, intensity=0.0)
            how = ViewEditSettings(
                steps=settings.steps,
                guidance_scale=settings.guidance(ViewEditSettings.guidance_scale),
                depth_weight=settings.depth_weight,
                seed=settings.seed,
            )
            made = editor.edit(pack_images(views.images), [rest, *edits], how)

        # The source's own face is used at rest; only a scan that shows an expression needs a generated one.
        reference = made.vertices_mm[1 if neutral.alignment.shown else 0]
        with watch("lift"):
            lifted = yield from self._lifted(neutral, edits, made.vertices_mm[2:] - reference, made.sigma_mm[2:], given)

        front = views.images[0]
        poses = {NEUTRAL: neutral.vertices_mm, **{name: found.vertices_mm for name, found in lifted.items()}}
        colors = unpack_images(made.views[1:, 0], [front.camera] * (1 + len(edits)))
        names = [next((e.name for e in wanted if e.category == NEUTRAL), NEUTRAL), *(e.name for e in edits)]
        generated = {
            name: with_mesh_depth(image, head, poses.get(name, neutral.vertices_mm))
            for name, image in zip(names, colors, strict=True)
        }

        facts: dict[str, Value] = {
            "views/count": editor.rig.num_views,
            "views/missing_share": float(views.missing.mean()),
            "views/hidden_share": _hidden(views.seen_by, views.images),
        }
        if len(editor.first_stage.channels) == NUM_CHANNELS:
            cameras = editor.rig.cameras(editor.sample_size)
            apart = [disagreement(unpack_images(x, cameras)).depth_mm for x in made.views[1:]]
            facts["views/disagreement_mm"] = float(np.median(np.concatenate(apart)))
        return Expressed(source=front, generated=generated, lifted=lifted, facts=facts)

    def _lifted(
        self,
        neutral: Neutral,
        edits: Sequence[Expression],
        offsets_mm: Float[np.ndarray, "n m 3"],
        sigma_mm: Float[np.ndarray, "n m"],
        given: Set[str],
    ) -> Steps[dict[str, Registered]]:
        face = self.editor.face
        pending = {
            e.name: neutral.pool.submit(
                register_offsets,
                self.head,
                neutral.vertices_mm,
                face.ids,
                offsets,
                belief=face.weight,
                sigma_mm=sigma,
                units_mm=neutral.units,
                prior=e.arkit,
                skin=neutral.skin,
                within_reach=e.name not in given,
            )
            for e, offsets, sigma in zip(edits, offsets_mm, sigma_mm, strict=True)
        }
        lifted = {}
        for number, (name, registered) in enumerate(pending.items()):
            yield Step(stage="lift", done=number, total=len(pending), note=name)
            lifted[name] = registered.result()
        return lifted


def with_mesh_depth(image: Rgbd, head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"]) -> Rgbd:
    """A generated colour view, with the depth of the mesh that was made from it."""
    camera: Camera = image.camera
    raster = rasterize(
        camera, np.ascontiguousarray(vertices_mm, np.float64), np.ascontiguousarray(head.faces, np.int32)
    )
    mask = image.mask & (raster.face_id >= 0)
    return replace(image, depth_mm=np.where(mask, raster.depth_mm, 0).astype(np.float32), mask=mask)


def _hidden(seen_by: np.ndarray, images: Sequence[Rgbd]) -> float:
    """Share of the front view's surface that no other view sees."""
    front = images[0].mask
    seen = np.any(seen_by[0, 1:], axis=0)[front]
    return float(1 - seen.mean()) if len(images) > 1 and len(seen) else 0.0

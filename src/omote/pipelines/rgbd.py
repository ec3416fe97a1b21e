"""Candidate 3: point cloud → RGB-D image → diffusion conditioned on the expression → 3D avatar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from omote.align.align import Alignment
from omote.completion.aligned import AlignedCompletion
from omote.cores import num_cores
from omote.diffusion.settings import EditSettings
from omote.head.expressions import with_weights
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.lift.register import Registered, register_expression, still_in
from omote.pipelines.base import BESIDE_AN_EDIT, NEUTRAL, AvatarPipeline, Expressed, Neutral
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step, Steps
from omote.rendering.source import source_image
from omote.rgbd.protocol import Editor
from omote.runs import Stopwatch
from omote.types import Camera, Expression, Rgbd


def rest_face(alignment: Alignment, head: HeadModel, camera: Camera) -> RestFace:
    """The person of an aligned scan, as drawn in motion images.

    Args:
        alignment: alignment of the scan to the head model.
        head: head model of the alignment.
        camera: camera of the source image.
    """
    return RestFace(
        head=head,
        vertices_mm=alignment.neutral_mm,
        camera=camera,
        style=head.style_share(alignment.fit.identity),
        identity=alignment.fit.identity,
        sigma_mm=alignment.sigma_mm,
    )


class RgbdPipeline(AvatarPipeline):
    """Candidate 3: edits of one RGB-D image.

    Args:
        editor: source of the networks, first called when the scan is aligned, so that they can load meanwhile.
        head: output head model.
        complete: as of `AvatarPipeline`.
    """

    def __init__(self, editor: Editor, head: HeadModel, complete: AlignedCompletion | None = None) -> None:
        super().__init__(head, complete)
        self.editor = editor

    def load(self) -> None:
        """Wait until the networks are loaded."""
        assert self.editor.sample_size

    def expressed(
        self,
        neutral: Neutral,
        wanted: Sequence[Expression],
        settings: AvatarSettings,
        *,
        given: Set[str],
        watch: Stopwatch,
    ) -> Steps[Expressed]:
        """Generate one RGB-D image per expression, and register the head to each."""
        head, alignment = self.head, neutral.alignment
        yield Step(stage="source")
        with watch("source"):
            source = source_image(alignment.scan, head, neutral.scanned_mm, self.editor.sample_size)
        yield Step(stage="edit", note=f"expressions: {len(wanted)}, steps: {settings.steps}", ready={"source": source})
        with watch("edit"):
            face = rest_face(alignment, head, source.camera)
            generated = self._edited(source, face, wanted, settings)
        yield Step(stage="lift", ready={e.name: generated[e.name] for e in wanted})
        with watch("lift"):
            lifted = yield from self._lifted(neutral, face, generated, wanted, given=given)
        return Expressed(source=source, generated=generated, lifted=lifted)

    def _edited(
        self, source: Rgbd, face: RestFace, wanted: Sequence[Expression], settings: AvatarSettings
    ) -> dict[str, Rgbd]:
        """The edited images by name, always including one at rest."""
        edits = list(wanted)
        if all(expression.name != NEUTRAL for expression in wanted):
            edits.append(with_weights(Expression(category=NEUTRAL), settings.seed))
        how = EditSettings(
            steps=settings.steps,
            guidance_scale=settings.guidance(EditSettings.guidance_scale),
            seed=settings.seed,
            threads=max(1, num_cores() - BESIDE_AN_EDIT),
        )
        images = self.editor.edit(source, edits, how, face=face)
        return {expression.name: image for expression, image in zip(edits, images, strict=True)}

    def _lifted(
        self,
        neutral: Neutral,
        face: RestFace,
        generated: Mapping[str, Rgbd],
        wanted: Sequence[Expression],
        *,
        given: Set[str],
    ) -> Steps[dict[str, Registered]]:
        """The head registered to every image that is not at rest, by name."""
        still = still_in(self.head, neutral.vertices_mm, generated[NEUTRAL])
        pending = {
            e.name: neutral.pool.submit(
                register_expression,
                self.head,
                neutral.vertices_mm,
                generated[e.name],
                generated[NEUTRAL],
                units_mm=neutral.units,
                prior=e.arkit,
                skin=neutral.skin,
                still=still,
                drawn_mm=None if e.arkit is None else face.drawn_mm(e.arkit),
                within_reach=e.name not in given,
            )
            for e in wanted
            if e.category != NEUTRAL
        }
        lifted = {}
        for number, (name, registered) in enumerate(pending.items()):
            yield Step(stage="lift", done=number, total=len(pending), note=name)
            lifted[name] = registered.result()
        return lifted

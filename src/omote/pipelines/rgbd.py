"""Candidate 3: point cloud → RGB-D image → diffusion conditioned on the expression → 3D avatar."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from omote.align.align import Alignment, align
from omote.asset.at_rest import at_rest
from omote.asset.mouth import seat_mouth
from omote.asset.personalise import limited_units, personal_units
from omote.asset.texture import Baked, bake_texture
from omote.diffusion.settings import EditSettings
from omote.head.expressions import ARKIT_NAMES, with_weights
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.lift.motion import rigid_vertices
from omote.lift.register import Registered, register_expression, still_in
from omote.lift.travel import natural_weights
from omote.lift.untangle import RestSkin, rest_skin
from omote.pipelines.result import AvatarResult
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step, Steps
from omote.rendering.source import source_image
from omote.rgbd.protocol import Editor
from omote.runs import Stopwatch, Value
from omote.types import Avatar, Camera, Expression, Head, Rgbd, Scan

NEUTRAL = "neutral"
BESIDE_AN_EDIT = 2  # stages that need a core while the networks run: texture, and limits of units
Vertices = Float[np.ndarray, "v 3"]


def rest_face(alignment: Alignment, head: HeadModel, camera: Camera) -> RestFace:
    """The person of an aligned scan, as motion images are drawn from them.

    Args:
        alignment: alignment of the scan to the head model.
        head: the head model.
        camera: camera of the source image.
    """
    return RestFace(
        head=head,
        vertices_mm=alignment.neutral_mm,
        camera=camera,
        style=head.style_share(alignment.fit.identity),
        identity=alignment.fit.identity,
    )


class RgbdPipeline:
    """Scan → avatar.

    Args:
        editor: the networks; asked for the first time when the scan is aligned, so that they can load meanwhile.
        head: the output head.
    """

    def __init__(self, editor: Editor, head: HeadModel) -> None:
        self.editor = editor
        self.head = head

    def __call__(
        self,
        scan: Scan,
        expressions: Sequence[Expression],
        settings: AvatarSettings,
        *,
        landmarks: Float[np.ndarray, "68 3"] | None = None,
        watch: Stopwatch,
    ) -> Steps[AvatarResult]:
        """Make an avatar, a step at a time.

        Args:
            scan: a scan in its own coordinates.
            expressions: expressions to generate; without ARKit weights, a typical recipe of the category is used.
            settings: seed, steps, guidance and unit.
            landmarks: landmarks in the scan's coordinates; detected if None.
            watch: stopwatch that takes the seconds per stage.

        Raises:
            AlignmentError: no face found with confidence.
        """
        yield Step(stage="align")
        with watch("align"):
            alignment = align(scan, head=self.head, unit=settings.unit, landmarks=landmarks)
        return (yield from self.made(alignment, expressions, settings, watch=watch))

    def made(
        self, alignment: Alignment, expressions: Sequence[Expression], settings: AvatarSettings, *, watch: Stopwatch
    ) -> Steps[AvatarResult]:
        """The avatar of an aligned scan; arguments as for the whole."""
        head = self.head
        neutral, scanned = at_rest(head, alignment), seat_mouth(head, alignment.vertices_mm)
        wanted = [_weighted(head, neutral, expression, settings.seed) for expression in expressions]
        # Texture and limits of units need the neutral alone, and expressions do not need each other: what waits, waits together.
        # A stage has a core: where BLAS and the networks take them all, they and the stages wait for each other.
        pool, limits = ThreadPoolExecutor(max_workers=os.cpu_count() or 1), threadpool_limits(1, "blas")
        try:
            skin = rest_skin(head, neutral)
            units = personal_units(head, neutral)
            limited_ready = pool.submit(limited_units, head, neutral, units, skin)
            baked_ready = pool.submit(bake_texture, head, scanned, alignment.scan)
            yield Step(stage="source")
            with watch("source"):
                source = source_image(alignment.scan, head, scanned, self.editor.sample_size)
            yield Step(stage="edit", note=f"{len(wanted)} expressions, {settings.steps} steps")
            with watch("edit"):
                generated = self._edited(source, rest_face(alignment, head, source.camera), wanted, settings)
            with watch("lift"):
                given = {expression.name for expression in expressions if _given(expression)}
                lifted = yield from self._lifted(neutral, generated, wanted, units, given=given, skin=skin, pool=pool)
            yield Step(stage="texture")
            with watch("texture"):
                limited, baked = limited_ready.result(), baked_ready.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            limits.restore_original_limits()
        avatar = _avatar(head, neutral, lifted, wanted, limited, alignment, baked)
        names = {expression.name for expression in wanted}
        return AvatarResult(
            avatar=avatar,
            head=head,
            appearance=baked.appearance,
            source=source,
            generated={name: image for name, image in generated.items() if name in names},
            expressions=tuple(wanted),
            facts={**alignment.report(), **_facts(head, avatar, lifted, names)},
        )

    def _edited(
        self, source: Rgbd, face: RestFace, wanted: Sequence[Expression], settings: AvatarSettings
    ) -> dict[str, Rgbd]:
        """The edited images by name, always with one at rest."""
        edits = list(wanted)
        if all(expression.name != NEUTRAL for expression in wanted):
            edits.append(with_weights(Expression(category=NEUTRAL), settings.seed))
        how = EditSettings(
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            seed=settings.seed,
            threads=max(1, (os.cpu_count() or 1) - BESIDE_AN_EDIT),
        )
        images = self.editor.edit(source, edits, how, face=face)
        return {expression.name: image for expression, image in zip(edits, images, strict=True)}

    def _lifted(
        self,
        neutral: Vertices,
        generated: Mapping[str, Rgbd],
        wanted: Sequence[Expression],
        units: Float[np.ndarray, "52 v 3"],
        *,
        given: Set[str],
        skin: RestSkin,
        pool: ThreadPoolExecutor,
    ) -> Steps[dict[str, Registered]]:
        """The head registered to every image that is not at rest, by name."""
        still = still_in(self.head, neutral, generated[NEUTRAL])
        pending = {
            e.name: pool.submit(
                register_expression,
                self.head,
                neutral,
                generated[e.name],
                generated[NEUTRAL],
                units_mm=units,
                prior=e.arkit,
                skin=skin,
                still=still,
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


def _avatar(
    head: HeadModel,
    neutral: Vertices,
    lifted: Mapping[str, Registered],
    wanted: Sequence[Expression],
    units: Float[np.ndarray, "52 v 3"],
    alignment: Alignment,
    baked: Baked,
) -> Avatar:
    """Expressions first, in the order they were asked for, then the units."""
    morphs = {
        e.name: (lifted[e.name].vertices_mm - neutral).astype(np.float32)
        if e.name in lifted
        else np.zeros_like(neutral)
        for e in wanted
    }
    morphs |= {name: unit.astype(np.float32) for name, unit in zip(ARKIT_NAMES, units, strict=True)}
    return Avatar(
        neutral=Head(model_name=head.name, vertices_mm=neutral.astype(np.float32), inferred=alignment.inferred),
        morphs_mm=morphs,
        texture=baked.texture,
        texture_inferred=baked.inferred,
    )


def _given(expression: Expression) -> bool:
    """Whether its weights were given outright, which are then kept to the letter."""
    return expression.arkit is not None and expression.text is None


def _weighted(head: HeadModel, neutral: Vertices, expression: Expression, form: int) -> Expression:
    """The expression with weights: those that were given, or those of its category as far as this face can show them."""
    if _given(expression):
        return expression
    named = with_weights(expression, form)
    assert named.arkit is not None
    return replace(named, arkit=natural_weights(head, head.expression_mm, neutral, named.arkit))


def _facts(head: HeadModel, avatar: Avatar, lifted: Mapping[str, Registered], names: set[str]) -> dict[str, Value]:
    rigid = rigid_vertices(head)
    # Skull, ears and nose bridge: no expression moves them.
    moved = [float(np.linalg.norm(avatar.morphs_mm[name][rigid], axis=1).max(initial=0.0)) for name in names]
    return {
        **{f"lift/residual_mm_{name}": registered.residual_mm for name, registered in lifted.items()},
        "avatar/inferred_vertices": float(avatar.neutral.inferred.mean()),
        "avatar/inferred_texels": float(avatar.texture_inferred.mean()),
        "avatar/rigid_motion_max_mm": max(moved),
    }

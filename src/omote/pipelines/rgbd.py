"""Candidate 3: point cloud → RGB-D image → diffusion conditioned on the expression → 3D avatar."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.align.align import Alignment, align
from omote.asset.mouth import seat_mouth
from omote.asset.personalise import personal_units
from omote.asset.texture import bake_texture
from omote.diffusion.settings import EditSettings
from omote.geometry.camera import rgbd_points
from omote.head.expressions import ARKIT_NAMES, typical_expression
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.lift.motion import rigid_vertices
from omote.lift.register import register_expression
from omote.progress import Step
from omote.rendering.appearance import Appearance
from omote.rendering.source import has_color, source_image
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend, Editor, check_weights
from omote.types import Avatar, Camera, Expression, Head, Mesh, PointCloud, Rgbd

Value = float | int | str


@dataclass(frozen=True, kw_only=True)
class AvatarResult:
    """What the pipeline made, and what it went through.

    Attributes:
        avatar: neutral, morph targets, texture.
        appearance: skin tone and iris as estimated from the scan.
        alignment: where the face was found.
        source: the RGB-D image that was edited.
        generated: the edited images by the expressions' names.
        timings_s: seconds per stage.
        report: estimates, flat.
    """

    avatar: Avatar
    appearance: Appearance
    alignment: Alignment
    source: Rgbd
    generated: dict[str, Rgbd]
    timings_s: dict[str, float]
    report: dict[str, Value]


def rest_face(alignment: Alignment, head: HeadModel, camera: Camera) -> RestFace:
    """The person of an aligned scan, as motion images are drawn from them.

    Args:
        alignment: to the head model.
        head: the head model.
        camera: of the image that is edited.
    """
    return RestFace(
        head=head,
        vertices_mm=alignment.vertices_mm,
        camera=camera,
        style=head.style_share(alignment.fit.identity),
        identity=alignment.fit.identity,
    )


def with_weights(expression: Expression, seed: int) -> Expression:
    """The expression with ARKit weights; where it has none, those of its category's recipe number ``seed``.

    The editor takes a category alone too, and then decides itself what it looks like; weights lead it with more accuracy.
    """
    if expression.arkit is not None:
        return expression
    typical = typical_expression(expression.category, expression.intensity, recipe=seed)
    return replace(typical, text=expression.text)


class RgbdPipeline:
    """Scan → avatar, with the networks loaded once."""

    def __init__(self, model: Editor | Future[Editor], head: HeadModel) -> None:
        self._model = model
        self.head = head

    @property
    def model(self) -> Editor:
        """The networks; waits for them.

        Raises:
            CheckpointError: they do not load.
        """
        if isinstance(self._model, Future):
            self._model = self._model.result()
        return self._model

    @classmethod
    def load(
        cls,
        *,
        head: HeadModel,
        backend: Backend = "auto",
        weights: Path | None = None,
        editor: Editor | None = None,
    ) -> RgbdPipeline:
        """Begin to load the networks, in a thread: a scan can be aligned meanwhile.

        Args:
            head: the output head.
            backend: what runs the networks.
            weights: folder with ``autoencoder/`` and ``editor/``; the shipped one if None.
            editor: what edits, if it is there already; ``backend`` and ``weights`` are its own then.

        Raises:
            CheckpointError: there are none. Damaged ones are found when they are used.
        """
        if editor is not None:
            return cls(editor, head)
        folder = SHIPPED_WEIGHTS if weights is None else weights
        check_weights(folder)

        def networks() -> Editor:
            from omote.rgbd.load import load_model

            return load_model(folder, backend=backend)

        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        future = pool.submit(networks)
        pool.shutdown(wait=False)
        return cls(future, head)

    def __call__(
        self,
        scan: Mesh | PointCloud | Rgbd,
        *,
        expressions: Sequence[Expression],
        seed: int = 0,
        steps: int = 1,
        guidance_scale: float = 1.0,
        unit: str | None = None,
        landmarks: Float[np.ndarray, "68 3"] | None = None,
    ) -> Generator[Step, None, AvatarResult]:
        """Make an avatar, yielding the stages.

        Args:
            scan: in its own coordinates.
            expressions: what to generate.
            seed: of the noise.
            steps: network evaluations.
            guidance_scale: 1 means none.
            unit: of the scan; estimated if None.
            landmarks: in the scan's coordinates; found if None.

        Raises:
            AlignmentError: no face found with confidence.
        """
        timings: dict[str, float] = {}
        model = self.head

        @contextmanager
        def timed(stage: str) -> Iterator[None]:
            start = time.perf_counter()
            yield
            timings[stage] = time.perf_counter() - start

        yield Step(stage="align")
        with timed("align"):
            alignment = align(scan, head=model, unit=unit, landmarks=landmarks)
        # A face at rest still gets some fitted expression, and taking that off costs more than it gives: the scan is
        # the avatar's rest.
        neutral = seat_mouth(model, alignment.vertices_mm)
        seen = alignment.scan if isinstance(alignment.scan, Mesh | PointCloud) else _cloud(alignment.scan)
        # Texture and units need the neutral alone, and expressions do not need each other: what waits, waits together.
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        try:
            units_ready = pool.submit(personal_units, model, neutral)
            baked_ready = pool.submit(bake_texture, model, neutral, seen)
            yield Step(stage="source")
            with timed("source"):
                size = self.model.sample_size
                source = source_image(seen, model, neutral, size)
            yield Step(stage="edit", note=f"{len(expressions)} expressions, {steps} steps")
            with timed("edit"):
                # Another output head is not in correspondence with the shipped one, which motion images are drawn from.
                face = None
                if model.name == "omote":
                    face = rest_face(alignment, model, source.camera)
                wanted = [with_weights(e, seed) for e in expressions]
                edits = list(wanted)
                if all(e.name != "neutral" for e in wanted):
                    edits.append(with_weights(Expression(category="neutral"), seed))
                settings = EditSettings(steps=steps, guidance_scale=guidance_scale, seed=seed)
                images = self.model.edit(source, edits, settings, face=face)
                generated = {e.name: image for e, image in zip(edits, images, strict=True)}
            morphs: dict[str, Float[np.ndarray, "v 3"]] = {}
            residuals: dict[str, float] = {}
            yield Step(stage="texture")
            with timed("texture"):
                units, baked = units_ready.result(), baked_ready.result()
                # A scan without colour is shown with painted, open eyes.
                eyes_open = baked.eyes_open or not has_color(seen)
            with timed("lift"):
                lifted = {
                    e.name: pool.submit(
                        register_expression,
                        model,
                        neutral,
                        generated[e.name],
                        generated["neutral"],
                        units_mm=units,
                        prior=e.arkit,
                        eyes_open=eyes_open,
                    )
                    for e in wanted
                    if e.category != "neutral"
                }
                for number, expression in enumerate(wanted):
                    yield Step(stage="lift", done=number, total=len(wanted), note=expression.name)
                    if expression.category == "neutral":
                        morphs[expression.name] = np.zeros_like(neutral)
                        continue
                    registered = lifted[expression.name].result()
                    morphs[expression.name] = (registered.vertices_mm - neutral).astype(np.float32)
                    residuals[f"lift/residual_mm_{expression.name}"] = registered.residual_mm
            for name, unit_mm in zip(ARKIT_NAMES, units, strict=True):
                morphs[name] = unit_mm.astype(np.float32)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        avatar = Avatar(
            neutral=Head(
                model_name=model.name,
                vertices_mm=neutral.astype(np.float32),
                inferred=alignment.inferred,
            ),
            morphs_mm=morphs,
            texture=baked.texture,
            texture_inferred=baked.inferred,
        )
        rigid = rigid_vertices(model)
        report: dict[str, Value] = {
            **alignment.report(),
            **residuals,
            "avatar/inferred_vertices": float(alignment.inferred.mean()),
            "avatar/inferred_texels": float(baked.inferred.mean()),
            # Skull, ears and nose bridge: no expression moves them.
            "avatar/rigid_motion_max_mm": max(
                float(np.linalg.norm(morphs[e.name][rigid], axis=1).max()) for e in wanted
            ),
        }
        return AvatarResult(
            avatar=avatar,
            appearance=baked.appearance,
            alignment=alignment,
            source=source,
            generated={k: v for k, v in generated.items() if k in morphs},
            timings_s=timings,
            report=report,
        )


def _cloud(image: Rgbd) -> PointCloud:
    points, colors = rgbd_points(image)
    return PointCloud(points=points, colors=colors)

"""From a source image and wanted expressions to edited images: encode → sample → decode, in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from omote.diffusion.flow import SampleStep, Velocity, euler, guided, initial_noise, noised
from omote.diffusion.sampling import sampled
from omote.diffusion.settings import DRAW_SETTINGS, EditSettings
from omote.errors import CheckpointError, ConfigError
from omote.geometry.camera import orbit_camera
from omote.geometry.holes import closed
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace, fit_face, landmarks_in
from omote.rgbd.codec import pack_images, unpack_images
from omote.rgbd.conditions.base import Condition, kind_named
from omote.rgbd.conditions.geometry import Geometry
from omote.rgbd.conditions.identity import Identity
from omote.rgbd.conditions.kinds import condition_of
from omote.rgbd.conditions.motion import Motion, motion_of
from omote.rgbd.conditions.text.kind import Text
from omote.rgbd.latent_editor import Context
from omote.rgbd.networks import Networks
from omote.rgbd.restoration import Faults, faults_of, restored
from omote.rgbd.warp import IMAGE_SIZE
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend
from omote.types import Expression, Rgbd

if TYPE_CHECKING:
    from omote.rgbd.conditions.text.conditioner import TextConditioner
    from omote.rgbd.expression_prior import ExpressionPrior

__all__ = ["SHIPPED_WEIGHTS", "Backend", "EditSettings", "EditingModel"]


class EditingModel:
    """The trained first stage and editor, ready to edit: an `omote.rgbd.protocol.StudiedEditor`.

    Args:
        networks: the two networks, run by a backend.
        head: the head model that they were trained with; faces are fitted with it.
        weights: folder of the text conditioner and the expression prior.
        complete: function that completes the face fitted to an image with a depth camera's faults (`omote.completion.images`);
            if None, such images are restored with the fit alone.
    """

    def __init__(
        self,
        networks: Networks,
        head: HeadModel,
        *,
        weights: Path = SHIPPED_WEIGHTS,
        complete: Callable[[Rgbd, RestFace], RestFace] | None = None,
    ) -> None:
        self.networks = networks
        self.autoencoder = networks.autoencoder
        self.editor = networks.editor
        self.head = head
        self.weights = weights
        self.complete = complete

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.autoencoder.config.sample_size)

    @property
    def folded_guidance(self) -> float:
        """Guidance scale that distillation folded into the weights; 1 for none."""
        return float(self.editor.config.folded_guidance)

    @cached_property
    def text_conditioner(self) -> TextConditioner:
        """The text conditioner; its encoders are an extra.

        Raises:
            CheckpointError: no text conditioner beside the other weights.
        """
        from omote.rgbd.conditions.text.conditioner import load_text_conditioner

        return load_text_conditioner(self.weights)

    @cached_property
    def expression_prior(self) -> ExpressionPrior:
        """The prior of ARKit weights given a category: beside these weights, or the shipped one, which fits any editor.

        Raises:
            CheckpointError: damaged weights.
        """
        from omote.rgbd.expression_prior import FOLDER, load_expression_prior

        own = (self.weights / FOLDER).is_dir()
        return load_expression_prior(self.weights if own else SHIPPED_WEIGHTS)

    @torch.no_grad()
    def encode(self, images: Sequence[Rgbd]) -> Float[Tensor, "b d h w"]:
        """Images → their latents (unscaled)."""
        return self.networks.encode(pack_images(images))

    @torch.no_grad()
    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """One image per expression of the person in the source, as one batch, in the source's camera.

        Args:
            source: a person, mostly at rest; a depth camera's noise and losses are undone (`omote.rgbd.restoration`), with the
                colours that ``rgb`` has where depth was lost.
            expressions: wanted expressions.
            settings: settings of the sampling.
            face: the person's fitted head in any head model; `face_of` the source if None.

        Raises:
            ConfigError: a condition that these weights do not read, settings that do not fit together, or a text without an
                encoder installed to read it.
        """
        settings = settings or EditSettings()
        with _torch_threads(settings.threads):
            return self._edited(source, expressions, settings, face)

    def _edited(
        self, source: Rgbd, expressions: Sequence[Expression], settings: EditSettings, face: RestFace | None
    ) -> list[Rgbd]:
        reads_identity = Identity in self.editor.conditioner.kinds
        faults = faults_of(source)
        if face is None and (reads_identity or faults.need_a_head or any(e.arkit is not None for e in expressions)):
            face = self._face_in(source, faults)
        source = restored(source, faults, face)
        x = pack_images([source]).expand(len(expressions), -1, -1, -1).contiguous()
        z = self.networks.encode(x[:1]).expand(len(expressions), -1, -1, -1)
        condition = self._condition(expressions, self._as_trained(face))
        edited, motion = self.edit_latents(z, condition, settings)
        return unpack_images(self.networks.decode(edited, x, motion), [source.camera] * len(expressions))

    def decode(
        self,
        latents: Float[Tensor, "b d h w"],
        sources: Sequence[Rgbd],
        expressions: Sequence[Expression] | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """Latents of `encode` → images, each in the camera of its source: the editor's ceiling.

        Args:
            latents: unscaled.
            sources: images that the decoder takes detail from, restored as for an edit.
            expressions: expressions of the latents; their ARKit weights move the sources as in an edit.
            face: the person in the sources; `face_of` the first if None.
        """
        faults = [faults_of(source) for source in sources]
        if face is None and (expressions is not None or any(f.need_a_head for f in faults)):
            face = self.face_of(sources[0])
        whole = [restored(i, f, face) for i, f in zip(sources, faults, strict=True)]
        return self._decoded(latents, whole, expressions, self._as_trained(face))

    def reconstruct(self, images: Sequence[Rgbd]) -> list[Rgbd]:
        """Images through the autoencoder alone, each decoded with itself, unmoved, as the source."""
        return self._decoded(self.encode(images), images)

    @torch.no_grad()
    def _decoded(
        self,
        latents: Float[Tensor, "b d h w"],
        sources: Sequence[Rgbd],
        expressions: Sequence[Expression] | None = None,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        moving = None if expressions is None else Motion.of(expressions, face)
        motion = motion_of(Condition((), len(latents)).including(moving), latents)
        x = self.networks.decode(latents, pack_images(sources), motion)
        return unpack_images(x, [i.camera for i in sources])

    @torch.no_grad()
    def face_of(self, source: Rgbd) -> RestFace:
        """The person in a source image: the head model fitted to its depth, from the landmarks that the locator finds.

        Raises:
            AlignmentError: no face found.
        """
        return self._face_in(source, faults_of(source))

    def _face_in(self, source: Rgbd, faults: Faults) -> RestFace:
        whole = closed(source, faults.holes)
        z = self.autoencoder.scale(self.networks.encode(pack_images([whole])))
        pixels = self.editor.locator(z)[0].numpy().astype(np.float64) * (source.camera.width / IMAGE_SIZE)
        face = fit_face(self.head, whole, landmarks_in(whole, pixels)).rest()
        # Clean images are edited as before.
        return face if self.complete is None or not faults.need_a_head else self.complete(source, face)

    @torch.no_grad()
    def draw(
        self,
        expressions: Sequence[Expression],
        settings: EditSettings = DRAW_SETTINGS,
        *,
        seeds: Sequence[int] | None = None,
        identities: Float[np.ndarray, "n i"] | None = None,
    ) -> list[Rgbd]:
        """Sample a new person per expression, without a source, as one batch; images in the standard camera.

        Args:
            expressions: categories with intensities, or texts.
            settings: settings of the sampling; those that need a source stay at their defaults.
            seeds: seed of each person's noise; ``settings.seed`` + i if None.
            identities: identity coefficients of each person's head, in σ; random persons if None.

        Raises:
            CheckpointError: weights that were not trained to sample persons.
            ConfigError: ARKit weights, which need a face to move; settings that need a source; too few seeds; a text without an
                encoder installed to read it.
        """
        seeds = self._check_draw(expressions, settings, seeds, identities)
        autoencoder = self.autoencoder
        condition = self._condition(expressions, None)
        every = torch.ones(len(expressions), dtype=torch.bool)
        if identities is not None:
            given = torch.from_numpy(identities.astype(np.float32))
            condition = condition.including(Identity(coefficients=given, given=every))

        side = self.sample_size // autoencoder.factor
        z = initial_noise((autoencoder.latent_channels, side, side), list(seeds))
        mean = self.editor.source_or_mean(torch.zeros_like(z), every)
        velocity, _ = self._guided(mean, condition, settings, drawn=every)
        for step in sampled(velocity, z, settings.steps, settings.sampler, seeds=seeds, shift=settings.shift):
            z = step.z
        x = autoencoder.decode(z * autoencoder.latent_std + autoencoder.latent_mean)
        return unpack_images(x, [orbit_camera(size=self.sample_size)] * len(expressions))

    @torch.no_grad()
    def edit_latents(
        self, z_source: Float[Tensor, "b d h w"], condition: Condition, settings: EditSettings
    ) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, "b 9 m m"]]:
        """Source latents (unscaled) and what is wanted → (edited latents (unscaled), motion image).

        Raises:
            ConfigError: a strength out of (0, 1], or below 1 with a sampler that begins at noise; an unknown kind to guide by.
        """
        if not 0 < settings.strength <= 1:
            raise ConfigError(f"strength: expected above 0 and at most 1, got {settings.strength}")
        if settings.strength < 1 and settings.sampler != "flow_euler":
            raise ConfigError(f"strength: {settings.sampler} begins at pure noise; give the sampler flow_euler")
        source = self.autoencoder.scale(z_source)
        length = source.new_full((len(source),), settings.strength / settings.steps)
        velocity, free = self._guided(source, condition, settings, length=length)
        delta = torch.zeros_like(source)
        for step in _edit_steps(velocity, free, source, settings):
            delta = step.z
        return z_source + delta * self.autoencoder.delta_std, motion_of(condition, source)

    def _guided(
        self,
        source: Float[Tensor, "b d h w"],
        condition: Condition,
        settings: EditSettings,
        *,
        length: Float[Tensor, "b"] | None = None,
        drawn: Bool[Tensor, "b"] | None = None,
    ) -> tuple[Velocity, Velocity]:
        """The guided and the unconditional velocity; conditions are encoded at the first step that needs them."""

        def network(condition: Condition, source: Float[Tensor, "b d h w"] = source) -> Velocity:
            @cache
            def context() -> Context:
                context = self.editor.context(source, condition, drawn)
                return context if length is None else self.editor.for_steps(context, length)

            return lambda z, t: self.networks.velocity(z, t, source, context())

        partial = []
        for names, scale in settings.kind_scales:
            kinds = [kind_named(name) for name in names.split("+")]
            if unread := [kind.name for kind in kinds if kind not in self.editor.conditioner.kinds]:
                raise ConfigError(f"kind_scales: these weights do not read {unread[0]}")
            partial.append((network(condition.without(kinds)), scale))
        free = network(condition.unconditional())
        velocity = guided(
            network(condition),
            free,
            settings.guidance_scale,
            source_free=network(condition.unconditional(), torch.zeros_like(source)),
            source_scale=settings.source_scale,
            partial=partial,
            interval=settings.guidance_interval,
        )
        return velocity, free

    def _as_trained(self, face: RestFace | None) -> RestFace | None:
        """The face in the form that the weights were trained on: a head with units, and coefficients of the right head model."""
        if face is None:
            return None
        if not face.head.expression_mm.any():
            face = face.in_head(self.head)
        if face.head.name != self.head.name and Identity in self.editor.conditioner.kinds:
            face = replace(face, identity=face.in_head(self.head).identity)
        return face if self.editor.config.unit_style else face.unstyled()

    def _condition(self, expressions: Sequence[Expression], face: RestFace | None) -> Condition:
        self._check_geometry(expressions)
        condition = condition_of(expressions, face, self.editor.conditioner.kinds)
        return condition.including(Text.read(expressions, lambda texts: self.text_conditioner.read(texts).token))

    def _check_geometry(self, expressions: Sequence[Expression]) -> None:
        images = [e.geometry for e in expressions if e.geometry is not None]
        if images and Geometry not in self.editor.conditioner.kinds:
            raise ConfigError(
                "expressions: a geometry image was given, but these weights read none; `omote train editor-cpu-conditions`"
            )
        for image in images:
            if image.mask.shape != (self.sample_size, self.sample_size):
                raise ConfigError(
                    f"expressions: expected geometry images of {self.sample_size} × {self.sample_size} pixels, "
                    f"got {image.camera.width} × {image.camera.height}; render or resize them"
                )

    def _check_draw(
        self,
        expressions: Sequence[Expression],
        settings: EditSettings,
        seeds: Sequence[int] | None,
        identities: Float[np.ndarray, "n i"] | None,
    ) -> Sequence[int]:
        """The seeds, after refusing expressions and settings that sampling a person does not support."""
        if self.editor.people is None:
            raise CheckpointError(
                f"{self.weights / 'editor'}: edits but was not trained to draw; "
                "give weights of `omote train editor-cpu-draw` (docs/training.md)"
            )
        if any(e.arkit is not None for e in expressions):
            raise ConfigError(
                "draw: expected categories or words, got ARKit weights; draw a person at rest and edit them"
            )
        if (settings.source_scale, settings.strength, settings.inversion_steps) != (1.0, 1.0, 0):
            raise ConfigError("draw: source_scale, strength and inversion_steps need a source; leave them as they are")
        seeds = [settings.seed + i for i in range(len(expressions))] if seeds is None else seeds
        if len(seeds) != len(expressions):
            raise ConfigError(f"draw: expected a seed for each of {len(expressions)} expressions, got {len(seeds)}")
        if identities is None:
            return seeds
        expected = int(self.editor.config.num_identity)
        if not expected:
            raise ConfigError(
                "draw: identities were given, but these weights read none; `omote train editor-cpu-conditions`"
            )
        if identities.shape != (len(expressions), expected):
            raise ConfigError(
                f"draw: expected identities of shape {(len(expressions), expected)}, got {identities.shape}"
            )
        return seeds


@contextmanager
def _torch_threads(most: int) -> Iterator[None]:
    """Context manager that limits the number of torch threads to ``most``; 0 sets no limit."""
    before = torch.get_num_threads()
    if 0 < most < before:
        torch.set_num_threads(most)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _edit_steps(
    velocity: Velocity, unconditional: Velocity, source: Float[Tensor, "b d h w"], settings: EditSettings
) -> Iterator[SampleStep]:
    """Steps from noise, from the source's own noise, or from the source half noised, to the edited difference."""
    seeds = [settings.seed + i for i in range(len(source))]
    start, z = settings.strength, initial_noise(tuple(source.shape[1:]), seeds).to(source)
    # The source's difference from itself is zero; from there the flow runs back to noise.
    zero = torch.zeros_like(z)
    if settings.inversion_steps:
        *_, last = euler(unconditional, zero, settings.inversion_steps, start=0.0, end=start)
        z = last.z
    elif start < 1:
        z = noised(zero, z, z.new_full((len(z),), start))
    if start < 1:
        return euler(velocity, z, settings.steps, start=start, shift=settings.shift)
    return sampled(velocity, z, settings.steps, settings.sampler, seeds=seeds, shift=settings.shift)

"""From a source image and wanted expressions to edited images: encode → sample → decode, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.diffusion.flow import euler, guided, initial_noise, noised
from omote.diffusion.sampling import sampled
from omote.diffusion.settings import DRAW_SETTINGS, EditSettings
from omote.errors import CheckpointError, ConfigError
from omote.geometry.camera import orbit_camera
from omote.geometry.holes import closed
from omote.head.rest_face import RestFace, fit_face, landmarks_in
from omote.head.shipped import shipped_head
from omote.rgbd.codec import pack_images, unpack_images
from omote.rgbd.conditions.base import Condition, condition_of
from omote.rgbd.conditions.motion import IMAGE_SIZE, NUM_CHANNELS, SIZE
from omote.rgbd.networks import Networks
from omote.rgbd.restoration import needs_restoring, restored
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend
from omote.types import Expression, Rgbd

if TYPE_CHECKING:
    from omote.rgbd.conditions.text.reader import TextReader
    from omote.rgbd.expression_prior import ExpressionPrior

__all__ = ["SHIPPED_WEIGHTS", "Backend", "EditSettings", "EditingModel"]


class EditingModel:
    """The trained first stage and editor, ready to edit.

    Args:
        networks: the two networks, run by a backend.
        weights: folder of the text conditioner and the expression prior.
    """

    def __init__(self, networks: Networks, *, weights: Path = SHIPPED_WEIGHTS) -> None:
        self.networks = networks
        self.autoencoder = networks.autoencoder
        self.editor = networks.editor
        self.weights = weights

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.autoencoder.config.sample_size)

    @cached_property
    def reader(self) -> TextReader:
        """What reads texts; its encoders are an extra.

        Raises:
            CheckpointError: no text conditioner beside the other weights.
        """
        from omote.rgbd.conditions.text.reader import TextReader

        return TextReader.load(self.weights)

    @cached_property
    def expression_prior(self) -> ExpressionPrior:
        """What draws ARKit weights for a category: beside these weights, or the shipped one, which knows no editor.

        Raises:
            CheckpointError: damaged weights.
        """
        from omote.rgbd.expression_prior import FOLDER, load_expression_prior

        own = (self.weights / FOLDER).is_dir()
        return load_expression_prior(self.weights if own else SHIPPED_WEIGHTS)

    @torch.no_grad()
    def edit_latents(
        self, z_source: Float[Tensor, "b d h w"], condition: Condition, settings: EditSettings
    ) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, "b 9 m m"]]:
        """Source latents (unscaled) and what is wanted → (edited latents (unscaled), motion image).

        Raises:
            ConfigError: a strength out of (0, 1], or below 1 with a sampler that begins at noise.
        """
        if not 0 < settings.strength <= 1:
            raise ConfigError(f"strength: expected above 0 and at most 1, got {settings.strength}")
        if settings.strength < 1 and settings.sampler != "flow_euler":
            raise ConfigError(f"strength: {settings.sampler} begins at pure noise; give the sampler flow_euler")
        autoencoder = self.autoencoder
        source = autoencoder.scale(z_source)
        wanted = self.editor.context(source, condition)
        free = self.editor.context(source, condition.dropped())
        nobody = torch.zeros_like(source)
        unknown = self.editor.context(nobody, condition.dropped())
        length = source.new_full((len(source),), settings.strength / settings.steps)
        wanted, free, unknown = (self.editor.for_steps(c, length) for c in (wanted, free, unknown))
        velocity = guided(
            lambda z, t: self.networks.velocity(z, t, source, wanted),
            lambda z, t: self.networks.velocity(z, t, source, free),
            settings.guidance_scale,
            source_free=lambda z, t: self.networks.velocity(z, t, nobody, unknown),
            source_scale=settings.source_scale,
            interval=settings.guidance_interval,
        )
        seeds = [settings.seed + i for i in range(len(source))]
        delta = initial_noise(tuple(source.shape[1:]), seeds).to(source)
        if settings.inversion_steps:
            # The source differs from itself by nothing, and from there the flow runs back to noise.
            back = euler(
                lambda z, t: self.networks.velocity(z, t, source, free),
                torch.zeros_like(delta),
                settings.inversion_steps,
                start=0.0,
                end=settings.strength,
            )
            delta = list(back)[-1].z
        elif settings.strength < 1:
            delta = noised(torch.zeros_like(delta), delta, delta.new_full((len(delta),), settings.strength))
        if settings.strength < 1:
            steps = euler(velocity, delta, settings.steps, start=settings.strength, shift=settings.shift)
        else:
            steps = sampled(velocity, delta, settings.steps, settings.sampler, seeds=seeds, shift=settings.shift)
        for step in steps:
            delta = step.z
        return z_source + delta * autoencoder.delta_std, wanted.motion

    @torch.no_grad()
    def draw(
        self,
        expressions: Sequence[Expression],
        settings: EditSettings = DRAW_SETTINGS,
        *,
        seeds: Sequence[int] | None = None,
        identities: Float[np.ndarray, "n i"] | None = None,
    ) -> list[Rgbd]:
        """People who never were, one per expression, as one batch; images in the standard camera.

        Args:
            expressions: shown by each; categories with intensities, or words.
            settings: how to sample; there is no source for a scale, strength or inversion of its own.
            seeds: of each person's noise; ``settings.seed`` + i if None.
            identities: of each person's head, in σ; anybody's if None.

        Raises:
            CheckpointError: weights that were not trained to draw, or no encoder installed to read words.
            ConfigError: ARKit weights, which move a face that is there; settings that need a source; too few seeds.
        """
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
        if seeds is None:
            seeds = [settings.seed + i for i in range(len(expressions))]
        if len(seeds) != len(expressions):
            raise ConfigError(f"draw: expected a seed for each of {len(expressions)} expressions, got {len(seeds)}")
        editor, autoencoder = self.editor, self.autoencoder
        every = torch.ones(len(expressions), dtype=torch.bool)
        condition = replace(self._condition(expressions, None), draws=every)
        if identities is not None:
            self._check_reads_identity(identities, len(expressions))
            given = torch.from_numpy(identities.astype(np.float32))
            condition = replace(condition, identity=given, has_identity=every)
        side = self.sample_size // autoencoder.factor
        z = initial_noise((autoencoder.latent_channels, side, side), list(seeds))
        mean = editor.source_or_mean(torch.zeros_like(z), condition)
        wanted, free = (editor.context(mean, c) for c in (condition, condition.dropped()))
        velocity = guided(
            lambda z, t: self.networks.velocity(z, t, mean, wanted),
            lambda z, t: self.networks.velocity(z, t, mean, free),
            settings.guidance_scale,
            interval=settings.guidance_interval,
        )
        for step in sampled(velocity, z, settings.steps, settings.sampler, seeds=seeds, shift=settings.shift):
            z = step.z
        x = autoencoder.decode(z * autoencoder.latent_std + autoencoder.latent_mean)
        return unpack_images(x, [orbit_camera(size=self.sample_size)] * len(expressions))

    @torch.no_grad()
    def face_of(self, source: Rgbd) -> RestFace:
        """The person in a source image: the head fitted to its depth, from the landmarks that the locator finds.

        Raises:
            AlignmentError: there is no face where one was found.
        """
        source = closed(source)
        z = self.autoencoder.scale(self.networks.encode(pack_images([source])))
        pixels = self.editor.locator(z)[0].numpy().astype(np.float64) * (source.camera.width / IMAGE_SIZE)
        return fit_face(shipped_head(), source, landmarks_in(source, pixels)).rest()

    @torch.no_grad()
    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """All wanted expressions of one source, as one batch; images in the source's camera.

        Args:
            source: a person, mostly at rest; what a depth camera did to it is undone (`omote.rgbd.restoration`), with the
                colours that ``rgb`` has where depth was lost.
            expressions: what is wanted.
            settings: how to sample.
            face: the person's fitted head, if there is one; `face_of` the source if None.

        Raises:
            CheckpointError: expressions asked for in words, and no encoder installed to read them.
        """
        settings = settings or EditSettings()
        needs_face = (
            needs_restoring(source) or self.editor.config.num_identity or any(e.arkit is not None for e in expressions)
        )
        if face is None and needs_face:
            face = self.face_of(source)
        source = _whole(source, face)
        x = pack_images([source]).expand(len(expressions), -1, -1, -1).contiguous()
        z = self.networks.encode(x[:1]).expand(len(expressions), -1, -1, -1)
        edited, motion = self.edit_latents(z, self._condition(expressions, self._moved_by_its_units(face)), settings)
        return unpack_images(self.networks.decode(edited, x, motion), [source.camera] * len(expressions))

    def _moved_by_its_units(self, face: RestFace | None) -> RestFace | None:
        """The face as these weights were trained to see it move."""
        return face if face is None or self.editor.config.unit_style else face.unstyled()

    def _check_reads_identity(self, identities: np.ndarray, count: int) -> None:
        expected = int(self.editor.config.num_identity)
        if not expected:
            raise ConfigError(
                "draw: identities were given, but these weights read none; `omote train editor-cpu-conditions`"
            )
        if identities.shape != (count, expected):
            raise ConfigError(f"draw: expected identities of shape {(count, expected)}, got {identities.shape}")

    def _check_reads_geometry(self, expressions: Sequence[Expression]) -> None:
        shown = [e.geometry for e in expressions if e.geometry is not None]
        if shown and self.editor.config.geometry == "none":
            raise ConfigError(
                "expressions: a geometry image was given, but these weights read none; `omote train editor-cpu-conditions`"
            )
        for image in shown:
            if image.mask.shape != (self.sample_size, self.sample_size):
                raise ConfigError(
                    f"expressions: expected geometry images of {self.sample_size} × {self.sample_size} pixels, "
                    f"got {image.camera.width} × {image.camera.height}; render or resize them"
                )

    def _condition(self, expressions: Sequence[Expression], face: RestFace | None) -> Condition:
        self._check_reads_geometry(expressions)
        condition = condition_of(expressions, face)
        asked = [i for i, e in enumerate(expressions) if e.text is not None]
        if not asked:
            return condition
        tokens = self.reader.tokens([str(expressions[i].text) for i in asked])
        text = tokens.new_zeros(len(expressions), tokens.shape[1])
        text[asked] = tokens
        return replace(condition, text=text, has_text=torch.tensor([e.text is not None for e in expressions]))

    @torch.no_grad()
    def reconstruct(
        self,
        images: Sequence[Rgbd],
        sources: Sequence[Rgbd] | None = None,
        expressions: Sequence[Expression] | None = None,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """Through the autoencoder alone: the editor's ceiling.

        Args:
            images: what to encode and decode.
            sources: what the decoder sees beside each; the image itself if None.
            expressions: of the images; where they hold ARKit weights, the source is moved as for an edit.
            face: the person that the sources show; `face_of` the first if None.
        """
        x = pack_images(images)
        if face is None and (expressions is not None or any(needs_restoring(i) for i in sources or ())):
            face = self.face_of((images if sources is None else sources)[0])
        source = x if sources is None else pack_images([_whole(i, face) for i in sources])
        motion = x.new_zeros(len(x), NUM_CHANNELS, SIZE, SIZE)
        if expressions is not None:
            motion = condition_of(expressions, self._moved_by_its_units(face)).motion
        return unpack_images(self.networks.decode(self.networks.encode(x), source, motion), [i.camera for i in images])


def _whole(source: Rgbd, face: RestFace | None) -> Rgbd:
    """A source as its camera would have seen it without losing any pixels, as far as can be told."""
    return closed(source) if face is None else restored(source, face)

"""Completion by diffusion: the views of a partial scan are inpainted as latents, and samples differ where little is known.

A multi-view denoiser (`omote.multiview.denoiser`) is given the composite of the fitted head and the scan, and the depth of what
was seen; it diffuses the difference between the composite's latents and the whole head's, for all views at once. Where no view
looks, behind ears and neck, the head follows what the views show by a Gaussian model (`omote.completion.displacement_prior`). The
result is the mean of several samples, and their spread is the standard deviation, up to calibrated factors. What the scan shows
stays where it was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor

from omote.completion.base import CompletedHead, PartialScan
from omote.completion.coarse_head import coarse_head
from omote.completion.displacement_prior import DisplacementPrior
from omote.completion.network import LEAST_SIGMA_MM, MOST_SIGMA_MM
from omote.completion.partial_views import PartialViews, displacement, partial_views
from omote.diffusion.flow import initial_noise
from omote.diffusion.sampling import sampled
from omote.engine.weights import load_pretrained
from omote.errors import CheckpointError
from omote.files import reading
from omote.head.model import HeadModel
from omote.multiview.denoiser import NULL_CATEGORY, TEXT_WIDTH, ViewConditions, ViewUNet, depth_maps
from omote.multiview.first_stage import ViewAutoencoder

UNITS = "units.safetensors"
SAMPLES, STEPS = 6, 4
# Deviation of the error that all samples share, before calibration, mm.
SHARED_MM = 0.5
PRIOR = ("mean_mm", "modes_mm", "rest_mm")
GROUPS = ("missing", "seen", "out of view")
HINT = "train one (omote train completion-diffusion-cpu)"


@dataclass(frozen=True, kw_only=True)
class SampledOffsets:
    """Displacements of the fitted head's coarse vertices, one for each sample.

    Attributes:
        offset_mm: displacement of each sample.
        sigma_mm: deviation before calibration.
        group: index of each vertex's group in `GROUPS`.
        seen: vertices that points of the scan support, in view or not.
    """

    offset_mm: Float[np.ndarray, "k n 3"]
    sigma_mm: Float[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]
    seen: Bool[np.ndarray, " n"]


def bare_conditions(composite: Float[Tensor, "b v d h w"], supported: Float[Tensor, "b v 5 s s"]) -> ViewConditions:
    """Conditions of a completion: the composite's latents and the depth of what was seen; no words."""
    count = len(composite)
    every = torch.ones(count, dtype=torch.bool, device=composite.device)
    return ViewConditions(
        source=composite,
        depth=depth_maps(supported, composite.shape[-1]),
        category=torch.full((count,), NULL_CATEGORY, device=composite.device),
        intensity=torch.zeros(count, device=composite.device),
        text=torch.zeros(count, TEXT_WIDTH, device=composite.device),
        has_source=every,
        has_depth=every,
        has_text=~every,
    )


class DiffusionCompletion:
    """Completion by diffusion in the latents of views.

    Args:
        denoiser: multi-view denoiser, trained by `omote.completion.train_diffusion`.
        first_stage: first stage of its latents, with depth.
        delta_std: standard deviation of the diffused difference, per channel.
        sigma_scale: factors of the standard deviation for each of `GROUPS`.
        prior: distribution of the fitted head's errors, for vertices out of view.
        head: head model that partial scans are fitted with.
        samples: number of samples.
        steps: number of steps of each.
    """

    kind = "diffusion"

    def __init__(
        self,
        *,
        denoiser: ViewUNet,
        first_stage: ViewAutoencoder,
        delta_std: Float[Tensor, "d 1 1"],
        sigma_scale: Float[Tensor, "3"],
        prior: DisplacementPrior,
        head: HeadModel,
        samples: int = SAMPLES,
        steps: int = STEPS,
    ) -> None:
        self.network, self.first_stage = denoiser.eval(), first_stage.eval()
        self.delta_std, self.sigma_scale, self.prior = delta_std, sigma_scale, prior
        self.head, self.coarse = head, coarse_head(head)
        self.samples, self.steps = samples, steps

    def __call__(self, partial: PartialScan) -> CompletedHead:
        """The whole head: the mean of the samples, with their calibrated spread."""
        found = self.sampled(partial)
        spread = self.coarse.spread
        sigma = found.sigma_mm * self.sigma_scale.numpy()[found.group]
        return CompletedHead(
            vertices_mm=partial.fitted_mm + spread @ found.offset_mm.mean(axis=0),
            sigma_mm=spread @ np.clip(sigma, LEAST_SIGMA_MM, MOST_SIGMA_MM).astype(np.float64),
            seen=spread @ found.seen.astype(np.float64) > 0.5,
        )

    def sampled(self, partial: PartialScan) -> SampledOffsets:
        """Displacements of the coarse vertices in every sample, by a fixed seed: a scan is always completed the same."""
        views = partial_views(partial, self.head, self.network.rig, self.first_stage.image_size)
        found = [displacement(views, changed) for changed in self.views(views).numpy()]
        in_view = np.all([sees for _, sees in found], axis=0)
        # What was measured stays: samples are farther off than the noise of what was seen.
        along = np.stack([moved for moved, _ in found]) * ~views.seen

        base = views.vertices_mm - partial.fitted_mm[self.coarse.ids]
        offset = base + along[:, :, None] * views.normals
        outward = self.coarse.normals_of(partial.fitted_mm, self.head)
        beyond, unsure = self.prior.given((offset * outward).sum(axis=2), in_view)
        offset = np.where(in_view[:, None], offset, beyond[:, :, None] * outward)
        along = np.where(in_view, along, beyond)
        variance = np.var(along, axis=0, ddof=1) + np.where(in_view, SHARED_MM, unsure) ** 2
        return SampledOffsets(
            offset_mm=offset, sigma_mm=np.sqrt(variance), group=groups(views.seen, in_view), seen=views.seen
        )

    @torch.no_grad()
    def views(self, views: PartialViews) -> Float[Tensor, "k v 5 s s"]:
        """Packed views of the whole head, of every sample."""
        source = self.first_stage.encoded(views.composite)
        given = source.expand(self.samples, *source.shape)
        conditions = bare_conditions(given, views.supported.expand(self.samples, *views.supported.shape))
        noise = initial_noise(tuple(source.shape), list(range(self.samples)))
        z = noise
        for step in sampled(lambda z, t: self.network.velocity(z, t, conditions), noise, self.steps):
            z = step.z
        whole = given + z * self.delta_std
        return self.first_stage.decoded(whole.flatten(0, 1)).unflatten(0, whole.shape[:2])


def groups(seen: Bool[np.ndarray, " n"], in_view: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Index of each vertex's group in `GROUPS`."""
    return np.where(in_view, np.where(seen, GROUPS.index("seen"), GROUPS.index("missing")), GROUPS.index("out of view"))


def load_diffusion_completion(folder: Path, head: HeadModel) -> DiffusionCompletion:
    """Load a completion by diffusion from the folder of its export: ``denoiser``, ``first_stage`` and their units.

    Raises:
        CheckpointError: weights are missing or damaged, or of networks that do not belong together.
    """
    denoiser = load_pretrained(ViewUNet, folder / "denoiser", hint=HINT).float()
    first_stage = load_pretrained(ViewAutoencoder, folder / "first_stage", hint=HINT).float()
    with reading(folder / "denoiser" / UNITS, CheckpointError, "damaged", HINT):
        units = load_file(folder / "denoiser" / UNITS)
        delta_std, sigma_scale = units["delta_std"].float(), units["sigma_scale"].float()
        prior = DisplacementPrior(**{name: units[f"prior_{name}"].double().numpy() for name in PRIOR})
    if denoiser.latent_channels != first_stage.latent_channels or denoiser.latent_size != first_stage.latent_size:
        raise CheckpointError(f"{folder}: networks that do not belong together; export them again")
    return DiffusionCompletion(
        denoiser=denoiser,
        first_stage=first_stage,
        delta_std=delta_std,
        sigma_scale=sigma_scale,
        prior=prior,
        head=head,
    )

"""A trained network as a `Completion`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from omote.completion.base import CompletedHead, PartialScan
from omote.completion.coarse_head import coarse_head
from omote.completion.diffusion import DiffusionCompletion, load_diffusion_completion
from omote.completion.names import HINT
from omote.completion.network import CompletionNetwork
from omote.completion.part_graph import PartGraphCompletion
from omote.completion.scan_batch import scan_batch
from omote.completion.sparse import SparseCompletion
from omote.completion.volume import VolumeCompletion
from omote.engine.weights import load_pretrained
from omote.head.model import HeadModel

NETWORKS: dict[str, type[CompletionNetwork]] = {
    "volume": VolumeCompletion,
    "sparse": SparseCompletion,
    "part-graph": PartGraphCompletion,
}


class TrainedCompletion:
    """Completion by a trained network.

    Args:
        network: the network, of any kind.
        head: head model that partial scans are fitted with.

    Raises:
        CheckpointError: the network was trained on another head model.
    """

    def __init__(self, network: CompletionNetwork, head: HeadModel) -> None:
        self.head, self.coarse = head, coarse_head(head)
        network.on(self.coarse)
        self.network = network.eval()

    @property
    def kind(self) -> str:
        """Name of the network's kind, of `NETWORKS`."""
        return next(name for name, kind in NETWORKS.items() if isinstance(self.network, kind))

    @torch.no_grad()
    def __call__(self, partial: PartialScan) -> CompletedHead:
        """The whole head: the fitted one displaced, with the calibrated standard deviation of its error."""
        scans = scan_batch([partial], self.head, self.coarse)
        found = self.network.calibrated(scans.to(self.network.device))
        offset, sigma = found.offset_mm[0].cpu().numpy(), found.sigma_mm[0].cpu().numpy()
        spread = self.coarse.spread
        return CompletedHead(
            vertices_mm=partial.fitted_mm + spread @ offset.astype(np.float64),
            sigma_mm=spread @ sigma.astype(np.float64),
            seen=spread @ scans.seen[0].numpy().astype(np.float64) > 0.5,
        )


def load_completion(folder: Path, head: HeadModel) -> TrainedCompletion | DiffusionCompletion:
    """Load a completion from the folder of its export, of a network or of diffusion.

    Raises:
        CheckpointError: the weights are missing, damaged, or of another head model.
    """
    if (folder / "denoiser").is_dir():
        return load_diffusion_completion(folder, head)
    first, *others = NETWORKS.values()
    network = load_pretrained(first, folder, *others, hint=HINT)
    return TrainedCompletion(network.float(), head)

"""Completions by name, and where their weights lie, in a module without the networks, which take seconds to import."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from omote.rgbd.weights import COMPLETIONS, RIVALS, SHIPPED_WEIGHTS

CompletionName = Literal["auto", "none", "restoration", "volume", "part-graph", "sparse", "diffusion"]
# By `omote study missing-depth` (docs/missing-depth.md).
BEST: CompletionName = "part-graph"
HINT = "train one: volume-cpu, sparse-cpu, part-graph-cpu or completion-diffusion-cpu (docs/missing-depth.md)"


def shipped_completion(name: CompletionName = BEST) -> Path:
    """Folder of a trained completion's weights: the best comes with the package, those to compare with in a checkout alone."""
    own = SHIPPED_WEIGHTS / COMPLETIONS / name
    return own if own.is_dir() else SHIPPED_WEIGHTS / RIVALS / COMPLETIONS / name

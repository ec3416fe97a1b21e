"""The completions that are compared, by name: a further one is a line of `METHODS`. Trained ones without weights are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from omote.completion.base import Completion
from omote.completion.baselines import HeadFit, NearestFill, Nothing, Restoration
from omote.completion.trained import NETWORKS, load_completion
from omote.head.model import HeadModel

# A function from a head model and the folder of exported networks to the completion, or None without weights.
Method = Callable[[HeadModel, Path | None], Completion | None]
NOTHING, NEAREST, FIT, RESTORATION, DIFFUSION = "nothing", "nearest", "head_fit", "restoration", "diffusion"


def exported(name: str, networks: Path | None) -> Path | None:
    """Folder of a network in a folder of exports or of runs; None if it is not there."""
    places = [] if networks is None else [networks / name, networks / name / "export" / "completion"]
    return next((place for place in places if _is_network(place) or _is_network(place / "denoiser")), None)


def _is_network(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _trained(name: str) -> Method:
    def load(head: HeadModel, networks: Path | None) -> Completion | None:
        folder = exported(name, networks)
        return None if folder is None else load_completion(folder, head)

    return load


TRAINED = (*NETWORKS, DIFFUSION)
METHODS: Mapping[str, Method] = {
    NOTHING: lambda head, _: Nothing(head),
    NEAREST: lambda head, _: NearestFill(head),
    FIT: lambda head, _: HeadFit(head),
    RESTORATION: lambda head, _: Restoration(head),
    **{name: _trained(name) for name in TRAINED},
}


def completions(head: HeadModel, networks: Path | None) -> dict[str, Completion]:
    """All completions of which there are weights.

    Args:
        head: head model that partial scans are fitted with.
        networks: folder of exported networks, or of runs, by name.

    Raises:
        CheckpointError: damaged weights, or those of another head model.
    """
    found = {name: method(head, networks) for name, method in METHODS.items()}
    return {name: completion for name, completion in found.items() if completion is not None}


def parameters(completion: Completion) -> int:
    """Number of a completion's trained parameters; 0 for a baseline."""
    network = getattr(completion, "network", None)
    return 0 if network is None else sum(p.numel() for p in network.parameters())

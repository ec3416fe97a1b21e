"""Loading of editors to compare, from the folders of their runs or weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from omote.completion.images import CompletedFaces
from omote.completion.names import shipped_completion
from omote.completion.trained import load_completion
from omote.errors import CheckpointError
from omote.head.shipped import shipped_head
from omote.rgbd.load import load_model, load_model_parts
from omote.rgbd.model import EditingModel
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend


def load_editor(run: Path, backend: Backend = "auto") -> EditingModel:
    """The editor of a run with the autoencoder that it was trained on, or both from a weights folder.

    Faces in images with a depth camera's faults are completed by the best completion, as `omote avatar` does with scans.

    A weights folder without ``autoencoder/`` shares the shipped one, so that a baseline of the shipped editor needs no second
    copy.

    Raises:
        CheckpointError: no usable weights, or an editor that was trained on another autoencoder than the shipped one.
    """
    model = _load(run, backend)
    model.complete = CompletedFaces(load_completion(shipped_completion(), model.head))
    return model


def _load(run: Path, backend: Backend) -> EditingModel:
    editor = run / "export" / "editor"
    if not (editor / "config.json").is_file():
        if (run / "editor" / "config.json").is_file() and not (run / "autoencoder").exists():
            return _behind_shipped(run, backend)
        return load_model(shipped_head(), run, backend=backend)
    try:
        autoencoder = Path(json.loads((run / "config.json").read_text(encoding="utf-8"))["autoencoder"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{run}: expected config.json of a run of an editor, which names its autoencoder"
        ) from None
    return load_model_parts(shipped_head(), autoencoder, editor, weights=editor.parent, backend=backend)


def _behind_shipped(weights: Path, backend: Backend) -> EditingModel:
    model = load_model_parts(
        shipped_head(), SHIPPED_WEIGHTS / "autoencoder", weights / "editor", weights=weights, backend=backend
    )
    # The latents' units are measured on an encoder's output, and differ between encoders. Weights ship in half precision.
    units = (
        (model.editor.delta_std, model.autoencoder.delta_std),
        (model.editor.latent_std, model.autoencoder.latent_std),
    )
    if not all(torch.equal(a.half(), b.half()) for a, b in units):
        raise CheckpointError(
            f"{weights}: its editor was trained on another autoencoder than the shipped one; put that beside it"
        )
    return model

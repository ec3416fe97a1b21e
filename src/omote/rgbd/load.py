"""Read an editing model from its folders, and give it the backend that runs it."""

from __future__ import annotations

from pathlib import Path

from omote.engine.weights import load_pretrained
from omote.head.model import HeadModel
from omote.rgbd.identity_stage import load_first_stage
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.model import EditingModel
from omote.rgbd.networks import Networks, fastest_precision
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend, check_weights


def load_model(head: HeadModel, folder: Path = SHIPPED_WEIGHTS, *, backend: Backend = "auto") -> EditingModel:
    """Load an editing model from a folder with ``autoencoder/`` and ``editor/``.

    Args:
        head: the head model that the weights were trained with.
        folder: exported weights.
        backend: what runs the networks; "auto" is PyTorch, because OpenVINO takes longer to convert the networks than PyTorch
            to make the edits of one avatar, and float32, because measuring takes longer than bfloat16 saves there. "fastest" is
            for many edits: it times both on this machine.

    Raises:
        CheckpointError: missing or damaged weights, or OpenVINO asked for and not installed.
    """
    check_weights(folder)
    return load_model_parts(head, folder / "autoencoder", folder / "editor", weights=folder, backend=backend)


def load_model_parts(
    head: HeadModel, autoencoder: Path, editor: Path, *, weights: Path = SHIPPED_WEIGHTS, backend: Backend = "auto"
) -> EditingModel:
    """Load an editing model from the folders of its two networks.

    Args:
        head: the head model that the weights were trained with.
        autoencoder: exported first stage.
        editor: exported second stage.
        weights: folder of the text conditioner and the expression prior.
        backend: what runs the networks, as for `load_model`.

    Raises:
        CheckpointError: missing or damaged weights, or OpenVINO asked for and not installed.
    """
    return EditingModel(load_networks(autoencoder, editor, backend=backend), head, weights=weights)


def load_networks(autoencoder: Path, editor: Path, *, backend: Backend = "auto") -> Networks:
    """Load the two networks from their folders.

    Args:
        autoencoder: exported first stage.
        editor: exported second stage.
        backend: what runs the networks, as for `load_model`.

    Raises:
        CheckpointError: missing or damaged weights, or OpenVINO asked for and not installed.
    """
    first_stage, second_stage = load_first_stage(autoencoder).float(), load_pretrained(LatentEditor, editor).float()
    if backend == "openvino":
        from omote.rgbd.backends.openvino import OpenVinoNetworks

        return OpenVinoNetworks(first_stage, second_stage)
    networks = Networks(first_stage, second_stage, precision="bf16" if backend == "torch-bf16" else "fp32")
    if backend == "fastest":
        networks.precision = fastest_precision(networks)
    return networks

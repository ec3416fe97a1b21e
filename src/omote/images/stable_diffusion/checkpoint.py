"""Reading and writing Stable Diffusion 1.x and 2.x: a folder of diffusers, or one file in the original layout; never a hub.

Both give the same tensors under the same names to the same networks. A single file has no configs: they are derived from its
shapes (`omote.images.stable_diffusion.layout`), unless `save_single_file` wrote it, which keeps them in the file's metadata, or a
folder of configs is given.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import diffusers
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from omote.diffusion.objective import Prediction
from omote.errors import CheckpointError, ConfigError
from omote.files import atomic_path
from omote.images.stable_diffusion import layout
from omote.images.stable_diffusion.model import StableDiffusion, Views
from omote.images.stable_diffusion.text import (
    ClipTokenizer,
    fill_text_encoder,
    pad_id_of,
    text_encoder,
    transformers,
)
from omote.nets.view_attention import ViewAttention

Part = Literal["unet", "vae", "text_encoder"]
WEIGHTS: dict[Part, str] = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
SCHEDULER = "scheduler/scheduler_config.json"
VIEWS = "views.json"
METADATA = "omote.configs"
# The schedule that every Stable Diffusion 1.x and 2.x was trained with.
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}


def load_stable_diffusion(
    path: Path, *, configs: Path | None = None, prediction: Prediction | None = None
) -> StableDiffusion:
    """Load a checkpoint in float32, whatever the precision of its file.

    Args:
        path: folder of diffusers, or one ``.safetensors`` file in the original layout.
        configs: folder of diffusers whose configs a single file has; derived from its shapes if None.
        prediction: quantity that the U-Net predicts, for single files: ε if None, which is wrong for the 768² models of 2.x.

    Raises:
        CheckpointError: a file is missing, damaged, or of something else.
        ConfigError: transformers is not installed.
    """
    checkpoint = open_checkpoint(path, configs)
    scheduler = dict(checkpoint.scheduler)
    if prediction is not None:
        scheduler["prediction_type"] = {"epsilon": "epsilon", "v": "v_prediction"}[prediction]
    kind = scheduler.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise CheckpointError(f"{path}: expected a prediction of epsilon or v_prediction, got {str(kind)[:60]!r}")
    unet = load_unet(checkpoint)
    if checkpoint.views is not None and checkpoint.views.multiview:
        unet.set_attn_processor(ViewAttention(checkpoint.views.rig.num_views))
    encoder, tokenizer = load_text(checkpoint)
    return StableDiffusion(
        unet=unet,
        vae=load_vae(checkpoint),
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        views=checkpoint.views,
    )


def load_unet(path: Path | Checkpoint, **changes: Any) -> Any:
    """The U-Net alone, with entries of its config changed; raises as `load_stable_diffusion`."""
    return _filled(UNet2DConditionModel, open_checkpoint(path), "unet", changes)


def load_vae(path: Path | Checkpoint) -> Any:
    """The VAE alone; raises as `load_stable_diffusion`. Its latents are scaled by `omote.images.first_stage.encoded`."""
    return _filled(AutoencoderKL, open_checkpoint(path), "vae", {})


def load_text(path: Path | Checkpoint) -> tuple[Any, ClipTokenizer]:
    """The text encoder and its tokenizer alone; raises as `load_stable_diffusion`."""
    checkpoint = open_checkpoint(path)
    config = checkpoint.config("text_encoder")
    # Written by some versions of transformers, and no argument of the config.
    for key in ("architectures", "model_type", "_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        config.pop(key, None)
    with checkpoint.loading("text_encoder"):
        encoder = text_encoder(config)
        fill_text_encoder(encoder, checkpoint.state("text_encoder"), checkpoint.path)
        tokenizer = checkpoint.tokenizer(encoder.config.max_position_embeddings)
    if len(tokenizer.words) > encoder.config.vocab_size:
        raise CheckpointError(
            f"{checkpoint.path}: expected a text encoder of {len(tokenizer.words):,} tokens or more, got "
            f"{encoder.config.vocab_size:,}"
        )
    return encoder.float().eval(), tokenizer


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint: configs, and states under the names of diffusers and transformers."""

    path: Path
    scheduler: Mapping[str, Any]
    views: Views | None = None

    def config(self, part: Part) -> dict[str, Any]:
        """Config of a network."""
        raise NotImplementedError

    def state(self, part: Part, names: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """Tensors of a network, by the names that it has in memory (``names``), or any layout of the text encoder's."""
        raise NotImplementedError

    def tokenizer(self, length: int) -> ClipTokenizer:
        """The tokenizer."""
        raise NotImplementedError

    @contextmanager
    def loading(self, part: Part) -> Iterator[None]:
        """Turn what damaged files raise into one line."""
        try:
            yield
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"{self.path}: {part} does not load ({type(error).__name__}: {line[:140]}); get the file again"
            ) from None


def open_checkpoint(path: Path | Checkpoint, configs: Path | None = None) -> Checkpoint:
    """Open a folder or file, without reading its tensors.

    Raises:
        CheckpointError: it is missing, damaged, or of something else.
    """
    if isinstance(path, Checkpoint):
        return path
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; expected a folder of diffusers or one .safetensors file")
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path}: expected .safetensors, got {path.suffix or 'no ending'}; other files run code when they are read, so "
            "convert it first"
        )
    return _open_file(path, configs)


@dataclass(frozen=True, kw_only=True)
class _Folder(Checkpoint):
    def config(self, part: Part) -> dict[str, Any]:
        return _json(self.path / part / "config.json")

    def state(self, part: Part, names: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        stem, folder = WEIGHTS[part], self.path / part
        whole = [folder / f"{stem}{variant}.safetensors" for variant in ("", ".fp16")]
        files = [path for path in whole if path.is_file()][:1] or sorted(folder.glob(f"{stem}-*-of-*.safetensors"))
        if not files:
            raise CheckpointError(f"{folder}: expected {stem}.safetensors; convert .bin files first, which run code")
        state: dict[str, Tensor] = {}
        for file in files:
            with safe_open(file, "pt") as opened:
                state |= {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (no mapping)
        if part != "vae":
            return state
        return {
            name: _like(value, names[name].shape) if names and name in names else value
            for name, value in ((layout.modern_vae_name(key), value) for key, value in state.items())
        }

    def tokenizer(self, length: int) -> ClipTokenizer:
        folder = self.path / "tokenizer"
        own = folder if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file() else None
        return ClipTokenizer(own, pad_id=pad_id_of(folder), length=length)


@dataclass(frozen=True, kw_only=True)
class _File(Checkpoint):
    shapes: layout.Shapes
    configs: Mapping[str, Mapping[str, Any]]
    version: int

    def config(self, part: Part) -> dict[str, Any]:
        return dict(self.configs[part])

    def state(self, part: Part, names: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        start = {
            "unet": layout.UNET,
            "vae": layout.VAE,
            "text_encoder": (layout.TEXT, layout.OPEN_CLIP_TEXT)[self.version - 1],
        }
        with safe_open(self.path, "pt") as file:
            if part == "text_encoder":
                return {
                    k.removeprefix(start[part]): file.get_tensor(k) for k in self.shapes if k.startswith(start[part])
                }
            assert names is not None
            config, up = self.configs[part], layout.attended_up(names)
            state = {}
            for name, wanted in names.items():
                if part == "unet":
                    original = layout.original_unet_name(name, config["layers_per_block"], up)
                else:
                    original = layout.original_vae_name(name, len(config["block_out_channels"]))
                if (key := f"{start[part]}{original}") in self.shapes:
                    state[name] = _like(file.get_tensor(key), wanted.shape)
            return state

    def tokenizer(self, length: int) -> ClipTokenizer:
        # Stable Diffusion 2.x was trained with texts padded by token 0.
        return ClipTokenizer(pad_id=0 if self.version == 2 else None, length=length)


def _open_folder(path: Path) -> Checkpoint:
    for part in get_args(Part):
        if not (path / part / "config.json").is_file():
            raise CheckpointError(f"{path}: expected a folder of diffusers, got none: {part}/config.json is missing")
    if (path / "text_encoder_2").is_dir():
        raise CheckpointError(f"{path}: expected Stable Diffusion 1.x or 2.x, got Stable Diffusion XL")
    scheduler = _json(path / SCHEDULER) if (path / SCHEDULER).is_file() else SCHEDULE
    views = Views.of(_json(path / VIEWS), path / VIEWS) if (path / VIEWS).is_file() else None
    return _Folder(path=path, scheduler=scheduler, views=views)


def _open_file(path: Path, configs: Path | None) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
        version = layout.version_of(shapes, path)
        found: dict[str, Any]
        if configs is not None:
            given = _open_folder(configs)
            found = {part: given.config(part) for part in get_args(Part)} | {"scheduler": given.scheduler}
        elif METADATA in metadata:
            found = json.loads(metadata[METADATA])
        else:
            found = layout.configs_of(shapes, version) | {"scheduler": SCHEDULE}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: expected safetensors ({str(error)[:120]}); get the file again") from None
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: expected all tensors of Stable Diffusion, {str(error)[:120]} is missing; get the file again"
        ) from None
    return _File(path=path, scheduler=found["scheduler"], shapes=shapes, configs=found, version=version)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a JSON object ({str(error)[:100]}); get the file again") from None
    return found


def _like(value: Tensor, shape: Any) -> Tensor:
    """A tensor as a matrix or as a 1 × 1 convolution, whichever is wanted; they hold the same numbers."""
    return value.reshape(shape) if value.ndim != len(shape) and value.numel() == shape.numel() else value


def _filled(kind: Any, checkpoint: Checkpoint, part: Part, changes: Mapping[str, Any]) -> Any:
    """A network with its weights. Memory is allocated once, for the weights themselves."""
    diffusers_logging.disable_progress_bar()
    with checkpoint.loading(part):
        config = _plain(checkpoint.config(part))
        with torch.device("meta"):
            network = kind.from_config({**config, **changes})
        own = network.state_dict()
        # Copied out of the mapped file, where a tensor's alignment, and with it the rounding of its products, is the file's.
        state = {name: value.to(torch.float32, copy=True) for name, value in checkpoint.state(part, own).items()}
        if missing := sorted(own.keys() - state.keys()):
            raise ValueError(f"{missing[0]} and {len(missing) - 1} more are missing")
        network.load_state_dict(state, assign=True)
    return network.eval()


def save_stable_diffusion(model: StableDiffusion, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a folder that stock diffusers reads, with the cameras beside it if the U-Net is of views or of depth.

    Args:
        model: checkpoint to write.
        folder: folder to write into.
        dtype: precision of the weights.
    """
    for part, network in (("unet", model.unet), ("vae", model.vae), ("text_encoder", model.text_encoder)):
        if dtype != torch.float32:
            network = copy.deepcopy(network).to(dtype)
        network.save_pretrained(folder / part)
    model.tokenizer.save(folder / "tokenizer")

    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    scheduler = {
        **model.scheduler,
        "_class_name": "DDIMScheduler",
        "prediction_type": next(k for k, v in PREDICTIONS.items() if v == model.prediction),
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 1,
        "timestep_spacing": "trailing",
    }
    (folder / SCHEDULER).write_text(json.dumps(scheduler, indent=2), encoding="utf-8")

    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": [transformers().__name__, "CLIPTextModel"],
        "tokenizer": [transformers().__name__, "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")

    if model.views is not None:
        (folder / VIEWS).write_text(json.dumps(model.views.values(), indent=2), encoding="utf-8")


def save_single_file(model: StableDiffusion, path: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write one file in the original layout of 1.x, its configs in the metadata.

    Raises:
        ConfigError: the U-Net has views, which the layout has no place for.
    """
    if model.views is not None:
        raise ConfigError("a single file has no place for cameras and depth; save a folder instead")
    tensors: dict[str, Tensor] = {}
    unet, vae = model.unet.state_dict(), model.vae.state_dict()
    up, per_block = layout.attended_up(unet), model.unet.config.layers_per_block
    for name, value in unet.items():
        tensors[layout.UNET + layout.original_unet_name(name, per_block, up)] = value
    for name, value in vae.items():
        original = layout.original_vae_name(name, len(model.vae.config.block_out_channels))
        matrix = value.ndim == 2 and "attn_1" in original
        tensors[layout.VAE + original] = value[..., None, None] if matrix else value
    for name, value in model.text_encoder.state_dict().items():
        tensors[f"{layout.TEXT}text_model.{name.removeprefix('text_model.')}"] = value
    configs = {
        "unet": _plain(model.unet.config),
        "vae": _plain(model.vae.config),
        "text_encoder": model.text_encoder.config.to_diff_dict(),
        "scheduler": dict(model.scheduler),
    }
    with atomic_path(path) as temporary:
        save_file(
            {name: value.to(dtype).contiguous() for name, value in tensors.items()},
            temporary,
            {"format": "pt", METADATA: json.dumps(configs)},
        )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}

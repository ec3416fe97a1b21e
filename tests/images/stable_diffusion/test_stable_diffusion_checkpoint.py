"""Checkpoints: both layouts give the same image, old and new key layouts load, stock diffusers reads what is written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from omote.errors import CheckpointError
from omote.images.stable_diffusion import layout
from omote.images.stable_diffusion.checkpoint import (
    load_stable_diffusion,
    load_text,
    load_unet,
    load_vae,
    save_single_file,
    save_stable_diffusion,
)
from omote.images.stable_diffusion.model import DrawSettings, StableDiffusion, Views
from omote.images.stable_diffusion.text import ClipTokenizer

FAST = DrawSettings(steps=2, guidance_scale=3.0)


def picture(model: StableDiffusion) -> torch.Tensor:
    return model.image(model.draw(["a happy face"], [3], FAST))


@torch.no_grad()
def test_folder_and_single_file_give_the_same_image_to_the_bit(
    folder: Path, single_file: Path, model: StableDiffusion
) -> None:
    wanted = picture(load_stable_diffusion(folder))
    assert torch.equal(picture(load_stable_diffusion(single_file)), wanted)
    torch.testing.assert_close(wanted, picture(model), atol=1e-4, rtol=0)


@torch.no_grad()
def test_shapes_alone_give_the_configs_of_a_single_file(single_file: Path, folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(single_file), bare)
    guessed = load_stable_diffusion(bare)
    own = load_stable_diffusion(folder)
    assert list(guessed.unet.config.block_out_channels) == list(own.unet.config.block_out_channels)
    assert guessed.prediction == "epsilon"
    guessed.unet.register_to_config(sample_size=8)
    assert torch.equal(picture(guessed), picture(own))
    given = load_stable_diffusion(bare, configs=folder, prediction="v")
    assert given.prediction == "v"


def test_names_of_a_single_file_are_those_that_diffusers_converts(single_file: Path, model: StableDiffusion) -> None:
    from diffusers.loaders import single_file_utils as peer

    state = load_file(single_file)
    unet = peer.convert_ldm_unet_checkpoint(dict(state), model.unet.config)
    vae = peer.convert_ldm_vae_checkpoint(dict(state), model.vae.config)
    for found, own in ((unet, model.unet.state_dict()), (vae, model.vae.state_dict())):
        assert found.keys() == own.keys()
        assert all(torch.equal(found[name], value) for name, value in own.items())
    # Stable Diffusion 1.5 has 686 tensors in its U-Net and 248 in its VAE.
    assert len(unet) == 686
    assert len(vae) == 248


@torch.no_grad()
def test_old_and_new_layouts_of_clip_load(folder: Path, tmp_path: Path) -> None:
    encoder, tokenizer = load_text(folder)
    ids = tokenizer(["a surprised old man"])
    wanted = encoder(input_ids=ids).last_hidden_state
    weights = load_file(folder / "text_encoder/model.safetensors")
    bare = {name.removeprefix("text_model."): value for name, value in weights.items()}
    old = {f"text_model.{name}": value for name, value in bare.items()}
    for state in (bare, old, old | {"text_model.embeddings.position_ids": torch.arange(77)[None]}):
        other = tmp_path / "sd"
        shutil.copytree(folder, other)
        save_file(state, other / "text_encoder/model.safetensors")
        found, _ = load_text(other)
        assert torch.equal(found(input_ids=ids).last_hidden_state, wanted)
        shutil.rmtree(other)


@torch.no_grad()
def test_open_clip_layout_of_version_2_loads(folder: Path, single_file: Path, tmp_path: Path) -> None:
    state = load_file(single_file)
    start = f"{layout.TEXT}text_model."
    text = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    own = {
        "token_embedding.weight": text["embeddings.token_embedding.weight"],
        "positional_embedding": text["embeddings.position_embedding.weight"],
        "ln_final.weight": text["final_layer_norm.weight"],
        "ln_final.bias": text["final_layer_norm.bias"],
    }
    for i in range(3):  # the last block is there, and not read
        theirs, block = f"encoder.layers.{min(i, 1)}.", f"transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            for name, original in parts.items():
                own[f"{block}{original}.{kind}"] = text[f"{theirs}{name}.{kind}"].clone()
            own[f"{block}attn.in_proj_{kind}"] = torch.cat([text[f"{theirs}self_attn.{w}_proj.{kind}"] for w in "qkv"])
    rest = {k: v for k, v in state.items() if not k.startswith(layout.TEXT)}
    path = tmp_path / "two.safetensors"
    save_file(rest | {layout.OPEN_CLIP_TEXT + name: value for name, value in own.items()}, path)
    encoder, tokenizer = load_text(path)
    assert encoder.config.hidden_act == "gelu"
    assert tokenizer(["x"])[0, -1] == 0, "2.x pads with token 0"
    ids = ClipTokenizer()(["a face"])
    wanted, _ = load_text(folder)
    wanted.config.hidden_act = "gelu"
    for block in wanted.encoder.layers if hasattr(wanted, "encoder") else wanted.text_model.encoder.layers:
        block.mlp.activation_fn = torch.nn.GELU()
    assert torch.equal(encoder(input_ids=ids).last_hidden_state, wanted(input_ids=ids).last_hidden_state)


@torch.no_grad()
def test_half_precision_and_old_names_of_a_vae_load(folder: Path, model: StableDiffusion, tmp_path: Path) -> None:
    save_stable_diffusion(model, tmp_path / "half", dtype=torch.float16)
    assert load_unet(tmp_path / "half").dtype == torch.float32
    other = tmp_path / "sd"
    shutil.copytree(folder, other)
    file = other / "vae/diffusion_pytorch_model.safetensors"
    renamed = {}
    for name, value in load_file(file).items():
        for old, new in layout.OLD_VAE_ATTENTION.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[name] = value
    assert "encoder.mid_block.attentions.0.query.weight" in renamed
    save_file(renamed, file)
    assert all(torch.equal(v, model.vae.state_dict()[k]) for k, v in load_vae(other).state_dict().items())


def test_stock_diffusers_reads_what_is_written(folder: Path) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    ids = pipeline.tokenizer("A face!", padding="max_length", max_length=77).input_ids
    assert ids == ClipTokenizer()(["A face!"])[0].tolist()
    model = load_stable_diffusion(folder)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "height": 64, "width": 64, "output_type": "latent"}
    wanted = pipeline("a happy face", latents=start, **settings).images
    ours = model.draw(["a happy face"], [5], DrawSettings(steps=4, sampler="ddim", guidance_scale=3.0))
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)


def test_vocabulary_is_clips() -> None:
    # The ids that OpenAI's own tokenizer gives.
    assert ClipTokenizer()(["a photo of a cat"])[0, :8].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 49407]
    assert ClipTokenizer()(["word " * 200]).shape == (1, 77)


def test_bad_checkpoints_are_one_clear_line(
    folder: Path, single_file: Path, model: StableDiffusion, tmp_path: Path
) -> None:
    def refused(path: Path, *words: str) -> None:
        with pytest.raises(CheckpointError) as error:
            load_stable_diffusion(path)
        assert "\n" not in str(error.value)
        assert all(word in str(error.value) for word in words), str(error.value)

    refused(tmp_path / "none", "no such file")
    (tmp_path / "old.ckpt").write_bytes(b"x")
    refused(tmp_path / "old.ckpt", "expected .safetensors", "convert")
    (tmp_path / "cut.safetensors").write_bytes(single_file.read_bytes()[:5000])
    refused(tmp_path / "cut.safetensors", "expected safetensors")
    save_file({"conditioner.embedders.0.x": torch.zeros(1)}, tmp_path / "xl.safetensors")
    refused(tmp_path / "xl.safetensors", "Stable Diffusion XL")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "other")
    state = load_file(single_file)
    del state["model.diffusion_model.out.2.bias"]
    save_file(state, tmp_path / "lacks.safetensors")
    refused(tmp_path / "lacks.safetensors", "unet", "missing")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "unet/config.json is missing")
    for part, change in (("unet", "cut"), ("vae", "gone"), ("text_encoder", "config")):
        other = tmp_path / part
        shutil.copytree(folder, other)
        file = next((other / part).glob("*.safetensors"))
        match change:
            case "cut":
                file.write_bytes(file.read_bytes()[:-4000])
            case "gone":
                file.unlink()
            case "config":
                config = json.loads((other / part / "config.json").read_text())
                (other / part / "config.json").write_text(json.dumps(config | {"hidden_size": 96}))
        refused(other, part)
    (folder / "views.json").unlink(missing_ok=True)
    other = tmp_path / "views"
    save_stable_diffusion(replace(model, views=Views(depth=False)), other)
    (other / "views.json").write_text("{}")
    refused(other, "views")


def test_single_file_has_no_place_for_views(model: StableDiffusion, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="save a folder"):
        save_single_file(replace(model, views=Views(depth=True)), tmp_path / "x.safetensors")

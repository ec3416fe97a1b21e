"""What fine-tuning adds changes nothing before it is trained, on the full layer structure of Stable Diffusion 1.5."""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from narrow_sd import WIDTH, narrow_unet
from omote.geometry.rig import Rig, flattened
from omote.images.stable_diffusion.checkpoint import load_stable_diffusion, save_stable_diffusion
from omote.images.stable_diffusion.depth import depth_image, depth_of, depth_range
from omote.images.stable_diffusion.extend import extended
from omote.images.stable_diffusion.lora import LowRank, merge, save_lora
from omote.images.stable_diffusion.model import DrawSettings, StableDiffusion, Views

RIG = Rig(yaw_deg=(0.0, 40.0, -40.0, 0.0), pitch_deg=(0.0, 0.0, 0.0, 25.0))
CAMERAS = torch.from_numpy(flattened(RIG.cameras(64)))


def inputs(count: int = 4, channels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(count, channels, 8, 8, generator=generator),
        torch.randn(1, 77, WIDTH, generator=generator).repeat(count, 1, 1),
    )


def run(unet: UNet2DConditionModel, x: torch.Tensor, context: torch.Tensor, **labels: torch.Tensor) -> torch.Tensor:
    return unet(x, 300, encoder_hidden_states=context, **labels).sample


@torch.no_grad()
def test_camera_embedding_with_zeroed_output_changes_nothing_to_the_bit() -> None:
    stock = narrow_unet()
    x, context = inputs()
    cameras = extended(stock, num_views=4)
    cameras.set_attn_processor(type(next(iter(stock.attn_processors.values())))())
    assert cameras.config.class_embed_type == "projection"
    assert torch.equal(run(cameras, x, context, class_labels=CAMERAS), run(stock, x, context))
    torch.nn.init.ones_(cameras.class_embedding.linear_2.weight)
    assert not torch.equal(run(cameras, x, context, class_labels=CAMERAS), run(stock, x, context))


@torch.no_grad()
def test_four_equal_views_give_the_stock_output() -> None:
    stock = narrow_unet()
    x, context = inputs()
    views = extended(stock, num_views=4)
    same = x[:1].repeat(4, 1, 1, 1)
    torch.testing.assert_close(
        run(views, same, context, class_labels=CAMERAS), run(stock, same, context), atol=1e-5, rtol=0
    )
    different = run(views, x, context, class_labels=CAMERAS)
    assert (different - run(stock, x, context)).abs().max() > 1e-3, "views see each other"


@torch.no_grad()
def test_zero_extended_depth_leaves_colour_unchanged_to_the_bit() -> None:
    stock = narrow_unet()
    x, context = inputs()
    joint = extended(stock, depth=True, init="zeros")
    depth = torch.randn(4, 4, 8, 8)
    out = run(joint, torch.cat([x, depth], dim=1), context)
    assert torch.equal(out[:, :4], run(stock, x, context))
    assert out.shape[1] == 8


@torch.no_grad()
def test_repeated_and_halved_input_reproduces_the_stock_output() -> None:
    stock = narrow_unet()
    x, context = inputs()
    joint = extended(stock, depth=True, init="halved")
    out, wanted = run(joint, torch.cat([x, x], dim=1), context), run(stock, x, context)
    for half in out.chunk(2, dim=1):
        torch.testing.assert_close(half, wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_low_rank_changes_are_none_at_first_and_merge_into_the_weights(tmp_path: Path) -> None:
    stock, network = narrow_unet(), narrow_unet()
    x, context = inputs()
    lora = LowRank(network, 4)
    assert len(lora.up) == 128, "four layers in each of 32 attentions"
    assert torch.equal(run(network, x, context), run(stock, x, context))
    for up in lora.up.values():
        torch.nn.init.normal_(up, std=0.05)
    changed = run(network, x, context)
    assert (changed - run(stock, x, context)).abs().max() > 1e-3
    merge(stock, lora.state_dict())
    torch.testing.assert_close(run(stock, x, context), changed, atol=1e-5, rtol=1e-4)
    save_lora(lora.state_dict(), tmp_path)
    assert (tmp_path / "pytorch_lora_weights.safetensors").is_file()


@torch.no_grad()
def test_what_is_saved_reloads_in_stock_diffusers_and_here(model: StableDiffusion, tmp_path: Path) -> None:
    unet = extended(model.unet, depth=True, num_views=4)
    torch.nn.init.normal_(unet.class_embedding.linear_2.weight, std=0.1)
    both = replace(model, unet=unet, views=Views(depth=True, multiview=True, rig=RIG, depth_range_mm=(-80.0, 60.0)))
    save_stable_diffusion(both, tmp_path)
    stock = UNet2DConditionModel.from_pretrained(tmp_path / "unet", local_files_only=True)
    assert stock.config.in_channels == 8
    assert all(torch.equal(v, unet.state_dict()[k]) for k, v in stock.state_dict().items())
    again = load_stable_diffusion(tmp_path)
    assert again.views == both.views
    settings = DrawSettings(steps=2, guidance_scale=1.0)
    z = again.draw(["a face"], [0], settings)
    assert z.shape == (4, 8, 8, 8)
    torch.testing.assert_close(z, both.draw(["a face"], [0], settings), atol=1e-4, rtol=0)
    rgb, depth = again.shown(z)
    assert rgb.shape == (4, 3, 64, 64)
    assert depth is not None
    assert depth.shape == (4, 1, 64, 64)


def test_depth_images_keep_their_range_and_are_not_rounded() -> None:
    generator = torch.Generator().manual_seed(0)
    depth = torch.tensor([10.0, 300.0]).view(2, 1, 1, 1) * torch.randn(2, 1, 32, 32, generator=generator)
    depth[0] += 500
    mask = torch.rand(2, 1, 32, 32, generator=generator) > 0.3
    between = depth_range(depth, mask)
    image = depth_image(depth, between)
    inside = image[:, :1][mask]
    assert 0.9 < float((inside.abs() <= 1).float().mean()) < 0.98, "quantiles of 2 % and 98 %"
    assert len(torch.unique(image)) > 1500, "more values than 8 bits have"
    torch.testing.assert_close(depth_of(image, between), depth, atol=1e-3, rtol=1e-5)
    flat = torch.full((1, 1, 4, 4), 7.0)
    torch.testing.assert_close(depth_of(depth_image(flat, depth_range(flat)), depth_range(flat)), flat)

"""The multi-view denoiser: what makes it one, and what it reads."""

from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel

from omote.geometry.rig import rig_of
from omote.multiview.denoiser import NULL_CATEGORY, ViewConditions, ViewUNet, depth_maps
from omote.nets.view_attention import ViewAttention

RIG = rig_of(["3"])


def denoiser(**changes: object) -> ViewUNet:
    torch.manual_seed(0)
    return ViewUNet(
        latent_size=8,
        latent_channels=4,
        yaw_deg=RIG.yaw_deg,
        pitch_deg=RIG.pitch_deg,
        channels=(16, 32),
        attended=(False, True),
        head_channels=16,
        context_width=32,
        **changes,
    ).eval()


def conditions(count: int = 2) -> ViewConditions:
    generator = torch.Generator().manual_seed(1)
    every = torch.ones(count, dtype=torch.bool)
    return ViewConditions(
        source=torch.randn(count, 3, 4, 8, 8, generator=generator),
        depth=torch.randn(count, 3, 32, 8, 8, generator=generator),
        category=torch.arange(count) + 1,
        intensity=torch.ones(count),
        text=torch.randn(count, 128, generator=generator),
        has_source=every,
        has_depth=every,
        has_text=every,
    )


@torch.no_grad()
def test_equal_views_give_what_a_stock_network_gives_one() -> None:
    torch.manual_seed(0)
    stock = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=16, cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
    ).eval()  # fmt: skip
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 32)
    single = stock(x, 300, encoder_hidden_states=context).sample
    stock.set_attn_processor(ViewAttention(4))
    together = stock(x.repeat(4, 1, 1, 1), 300, encoder_hidden_states=context.repeat(4, 1, 1)).sample
    torch.testing.assert_close(together, single.repeat(4, 1, 1, 1), atol=1e-5, rtol=0)
    different = stock(
        torch.cat([x, torch.randn(3, 4, 8, 8)]), 300, encoder_hidden_states=context.repeat(4, 1, 1)
    ).sample
    assert (different[:1] - single).abs().max() > 1e-4, "a view sees the others"


@torch.no_grad()
def test_what_is_not_given_is_not_read() -> None:
    for path in ("concat", "added"):
        net, wanted, z, t = denoiser(depth=path), conditions(), torch.randn(2, 3, 4, 8, 8), torch.tensor([0.4, 1.0])
        if net.adapter is not None:
            torch.nn.init.normal_(net.adapter[-1].weight, std=0.1)
        out = net.velocity(z, t, wanted)
        for kind, change in (
            ("source", {"source": wanted.source + 1}),
            ("depth", {"depth": wanted.depth + 1}),
            ("words", {"text": wanted.text + 1, "intensity": wanted.intensity / 2}),
        ):
            changed = replace(wanted, **change)
            assert (net.velocity(z, t, changed) - out).abs().max() > 1e-5, (path, kind)
            one, other = (net.velocity(z, t, c.without(kind)) for c in (wanted, changed))
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@torch.no_grad()
def test_sets_do_not_see_each_other_and_cameras_tell_views_apart() -> None:
    net, wanted = denoiser(), conditions()
    z, t = torch.randn(2, 3, 4, 8, 8), torch.tensor([0.4, 0.7])
    out = net.velocity(z, t, wanted)
    alone = ViewConditions(**{name: value[:1] for name, value in vars(wanted).items()})
    torch.testing.assert_close(net.velocity(z[:1], t[:1], alone), out[:1], atol=1e-5, rtol=0)
    same = replace(wanted, source=wanted.source[:, :1].repeat(1, 3, 1, 1, 1), depth=torch.zeros_like(wanted.depth))
    equal = net.velocity(z[:, :1].repeat(1, 3, 1, 1, 1), t, same)
    assert (equal[:, 0] - equal[:, 1]).abs().max() > 1e-5


def test_null_category_is_none_of_the_seven() -> None:
    assert conditions().without("words").category.tolist() == [NULL_CATEGORY] * 2 == [7, 7]


def test_depth_maps_keep_four_by_four_values_a_latent_pixel() -> None:
    x = torch.zeros(1, 1, 5, 64, 64)
    x[0, 0, 3] = torch.arange(64.0)[None] / 64
    maps = depth_maps(x, 8)
    assert maps.shape == (1, 1, 32, 8, 8)
    back = torch.nn.functional.pixel_shuffle(maps[0], 4)[0, 0]
    torch.testing.assert_close(back[0], (torch.arange(64.0).view(-1, 2).mean(dim=1)) / 64)

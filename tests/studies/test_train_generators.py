"""Sets of latents on disk, and that what trains on them learns."""

import numpy as np
import pytest
import torch

from omote.engine.loop import EngineConfig, tensors_of, train
from omote.errors import ConfigError, OmoteError
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.studies.effect_of_f import latents as sets
from omote.studies.effect_of_f.gan import FaceGenerator, GanTask
from omote.studies.effect_of_f.generator import GeneratorTask, LatentGenerator
from omote.studies.effect_of_f.latents import encode_images, pack_population, read_latents

COLOUR = torch.tensor([0.5, -0.25, 0.0, -0.4, 1.0]).view(1, 5, 1, 1)


@pytest.fixture
def constant(tmp_path):
    """Images of one colour, twelve persons."""
    parts = ((COLOUR.expand(2, 5, 8, 8), np.arange(2), np.full(2, person)) for person in range(12))
    sets._kept(tmp_path / "images", (24, 5, 8, 8), parts)
    # Their deviation is none; unit scale keeps the constant what it is.
    np.save(tmp_path / "images/std.npy", np.ones(5))
    np.save(tmp_path / "images/mean.npy", np.zeros(5))
    return tmp_path / "images"


def engine(images, **changes):
    own = {
        "total_images": images,
        "batch_size": 8,
        "precision": "fp32",
        "warmup_images": 40,
        "ema_images": 40,
        "grid_images": 0,
    }
    return EngineConfig(**{**own, "cooldown": 0.0, "threads": 1, **changes})


def test_a_packed_population_is_whole_kept_and_split_by_person(discs, tmp_path):
    images = pack_population(discs, 32, tmp_path / "images")
    assert images.values.shape == (40, 5, 32, 32)
    assert set(np.unique(images.values[:, 4])) == {-1, 1}
    training, held_out = images.split(0.4)
    assert sorted([*training, *held_out]) == list(range(40))
    assert set(images.person[held_out]) == {6, 7, 8, 9}
    autoencoder = RgbdAutoencoder(sample_size=32, channels=(16,), fine_channels=16, learned_channels=2).eval()
    latents = encode_images(images, autoencoder, tmp_path / "latents")
    with torch.no_grad():
        z = autoencoder.encode(images.take(np.array([4]))).mode()
    torch.testing.assert_close(latents.take(np.array([4])), z, atol=2e-3, rtol=2e-3)
    np.testing.assert_array_equal(latents.person, images.person)
    (tmp_path / "latents/std.npy").unlink()
    with pytest.raises(OmoteError, match="cannot be read"):
        read_latents(tmp_path / "latents")
    with pytest.raises(ConfigError, match="at least 2 persons"):
        pack_population(discs, 32, tmp_path / "one", max_persons=1).split(0.5)


def test_an_interrupted_set_is_not_there_and_is_made_anew(tmp_path):
    def parts(*, killed):
        yield torch.ones(1, 1, 2, 2), np.zeros(1, int), np.zeros(1, int)
        if killed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sets._kept(tmp_path / "set", (1, 1, 2, 2), parts(killed=True))
    assert not (tmp_path / "set").exists()
    assert sets._kept(tmp_path / "set", (1, 1, 2, 2), parts(killed=False)).values.sum() == 4
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("kind", ["gan", "diffusion"])
def test_a_step_is_the_same_in_parts(constant, kind):
    task = (GanTask if kind == "gan" else GeneratorTask)(constant, parameters=20_000)
    whole, halves = task.batch(3, 0, 8, 0, 1), [task.batch(3, 0, 4, part, 2) for part in range(2)]
    for key, value in tensors_of(whole).items():
        torch.testing.assert_close(torch.cat([tensors_of(half)[key] for half in halves]), value)


def test_the_gan_learns_a_constant(constant, tmp_path):
    config = engine(1200, learning_rate=2e-3, momentum=0.0, clip_norm=1e3)
    task = GanTask(constant, parameters=20_000)
    before = task.module.generator.draw(torch.arange(2), [0, 1])
    list(train(task, config, tmp_path / "run", config))
    trained = FaceGenerator.from_pretrained(tmp_path / "run/export/generator", low_cpu_mem_usage=False).eval()
    after = trained.draw(torch.arange(2), [0, 1])
    errors = [float((x - COLOUR).abs().mean()) for x in (before, after)]
    assert errors[1] < 0.15 < errors[0]


def test_neither_player_of_the_gan_has_a_gradient_to_the_other(constant):
    task = GanTask(constant, parameters=20_000)
    batch = task.batch(1, 0, 8, 0, 1)
    assert not batch.penalised
    task.module(batch)[0].backward()
    own = {k: v.grad.clone() for k, v in task.module.judge.named_parameters()}
    task.module.zero_grad()
    # The discriminator's own loss alone.
    images = task.module.generator(batch.noise, batch.category).detach()
    planes = torch.nn.functional.one_hot(batch.category, 7).float()[:, :, None, None].expand(-1, -1, 8, 8)
    real, fake = task.module.judge(batch.real, planes)[-1], task.module.judge(images, planes)[-1]
    (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()).backward()
    for key, parameter in task.module.judge.named_parameters():
        torch.testing.assert_close(own[key], parameter.grad)


def test_diffusion_learns_a_constant(constant, tmp_path):
    config = engine(1200, learning_rate=3e-3)
    list(train(GeneratorTask(constant, parameters=30_000), config, tmp_path / "run", config))
    net = LatentGenerator.from_pretrained(tmp_path / "run/export/generator", low_cpu_mem_usage=False).eval()
    drawn = net.draw(torch.arange(4), [0, 1, 2, 3], steps=4)
    # In the mean: so short a run leaves some of each pixel's noise.
    torch.testing.assert_close(drawn.mean(dim=(0, 2, 3)), COLOUR.flatten(), atol=0.12, rtol=0)

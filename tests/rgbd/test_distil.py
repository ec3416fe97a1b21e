"""Distillation: a student of few steps arrives where its guided teacher of many does, and edits like any editor."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from omote.config import override
from omote.diffusion.flow import noised
from omote.errors import ConfigError
from omote.head.shipped import population_heads, shipped_head
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe, task_of
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.conditions.category import Category
from omote.rgbd.conditions.kinds import condition_of
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.rgbd.train.distil import DistilModule, Jumps
from omote.rgbd.train.editor import EditorTask, LatentBatch
from omote.types import Expression


class Toy(nn.Module):
    """Velocity of data at ±1 in one dimension, exact: v = (z_t - E[z_0 | z_t]) / t; a wish moves the weights of the two."""

    step_length = None

    def context(self, source, condition):
        return torch.full((condition.size,), float(Category in condition))

    def for_steps(self, context, length):
        return context

    def velocity(self, z, t, source, wished):
        t = t.clamp(min=1e-3)
        a, s = 1 - t, t
        logit = 2 * a * z.flatten() / s**2 + wished
        return (z - torch.tanh(logit).view(-1, 1, 1, 1)) / t.view(-1, 1, 1, 1)


class Student(nn.Module):
    """A small network of (z, t, length of the step)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def context(self, source, condition):
        return None

    def for_steps(self, context, length):
        return length

    def velocity(self, z, t, source, length):
        return self.net(torch.stack([z.flatten(), t, length], 1)).view(-1, 1, 1, 1)


def wish(count):
    return condition_of([Expression(category="neutral")] * count)


def toy_edits(count, generator):
    z_0 = torch.randint(0, 2, (count, 1, 1, 1), generator=generator) * 2.0 - 1
    noise = torch.randn(count, 1, 1, 1, generator=generator)
    return LatentBatch(source=z_0, delta=z_0, condition=wish(count), t=torch.ones(count), noise=noise,
                       landmarks_px=z_0, drawn=torch.zeros(count, dtype=torch.bool))  # fmt: skip


def walked(velocity, z, count):
    for i in range(count):
        z = z - velocity(z, torch.full((len(z),), 1 - i / count)) / count
    return z


@pytest.mark.parametrize("method", ["trajectory", "consistency"])
def test_a_student_of_one_step_arrives_where_its_guided_teacher_does(method, runs):
    config = replace(RECIPES["few-tiny"](runs), method=method, teacher_steps=8, guidance_scale=2.0, steps=(2, 1))
    module = DistilModule(Student(), Toy(), config)
    optimiser = torch.optim.Adam(module.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(1_000):
        count = config.steps[step % 2]
        edits = toy_edits(40, generator)
        grid = count if method == "trajectory" else config.teacher_steps
        t = 1 - torch.randint(grid, (40,), generator=generator) / grid
        loss, _ = module(Jumps(edits=replace(edits, t=t), length=1 / count))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    edits = toy_edits(400, torch.Generator().manual_seed(7))

    def guided(z, t):
        free = Toy().velocity(z, t, None, 0)
        return free + 2 * (Toy().velocity(z, t, None, 1) - free)

    with torch.no_grad():
        true = walked(guided, edits.noise, 8)
        jumped = edits.noise - module.editor.velocity(edits.noise, torch.ones(400), None, torch.ones(400))
        straight = walked(guided, edits.noise, 1)
    assert float((jumped - true).abs().mean()) < 0.4 * float((straight - true).abs().mean())


def test_a_student_begins_as_its_teacher(runs):
    task = task_of(RECIPES["few-tiny"](runs))
    batch = task.batch(0, 0, 8, 0, 1)
    student, (teacher,) = task.module.editor, task.module.teacher
    assert student.config.few_steps
    assert student.config.folded_guidance == 1.5
    z, edits = noised(batch.edits.delta, batch.edits.noise, batch.edits.t), batch.edits
    context = student.for_steps(student.context(edits.source, edits.condition), torch.full((8,), batch.length))
    with torch.no_grad():
        mine = student.velocity(z, edits.t, edits.source, context)
        theirs = teacher.velocity(z, edits.t, edits.source, teacher.context(edits.source, edits.condition))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("method", ["trajectory", "consistency"])
def test_the_student_exports_as_an_editor_that_reads_the_length_of_its_steps(runs, tmp_path, method):
    list(run_recipe(replace(RECIPES["few-tiny"](runs), method=method), tmp_path))
    autoencoder = RgbdAutoencoder.from_pretrained(runs / "decoder/export/autoencoder", low_cpu_mem_usage=False)
    editor = LatentEditor.from_pretrained(tmp_path / "export/editor", low_cpu_mem_usage=False)
    assert float(editor.step_length.embed[-1].weight.detach().abs().max()) > 0
    from omote.datasets.population import PopulationConfig, draw_person, render_person

    config = PopulationConfig(num_images=2)
    person = draw_person(config, 0, population_heads(config.ict))
    source = next(iter(render_person(person, population_heads(config.ict))))[0]
    model = EditingModel(Networks(autoencoder, editor), shipped_head())
    one, four = (model.edit(source, [Expression(category="happy")], EditSettings(steps=n))[0] for n in (1, 4))
    assert abs(one.depth_mm - four.depth_mm).max() > 0


def test_a_step_is_the_same_in_parts(runs):
    task = task_of(RECIPES["few-tiny"](runs))
    whole, parts = task.batch(3, 0, 8, 0, 1), [task.batch(3, 0, 4, part, 2) for part in (0, 1)]
    assert {p.length for p in parts} == {whole.length}
    assert torch.equal(whole.edits.t, torch.cat([p.edits.t for p in parts]))
    assert torch.equal(whole.edits.noise, torch.cat([p.edits.noise for p in parts]))


def test_steps_that_do_not_end_where_the_teachers_do_are_refused(runs):
    with pytest.raises(ValueError, match="multiple of 3"):
        replace(RECIPES["few-tiny"](runs), steps=(3,))
    config = RECIPES["few-tiny"](runs)
    with pytest.raises(ConfigError, match="teacher_steps"):
        override(config, ["teacher_steps=6"])


def test_a_regression_is_independent_of_the_noise(runs):
    config = replace(RECIPES["editor-tiny"](runs), objective=RECIPES["editor-cpu-regression"](runs).objective)
    batch = EditorTask(config, population_heads()).batch(0, 0, 8, 0, 1)
    assert bool((batch.t == 1).all())
    editor = LatentEditor.from_pretrained(runs / "editor/export/editor", low_cpu_mem_usage=False)
    with torch.no_grad():
        context = editor.context(batch.source, batch.condition)
        a, b = (
            z - editor.velocity(z, batch.t, batch.source, context) for z in (batch.noise, torch.zeros_like(batch.noise))
        )
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)

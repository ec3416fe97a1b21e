"""Training of the face finder and the landmark network on simulated scans; one CPU thread, about half an hour.

A run is a folder with ``config.json``, ``stats.jsonl``, ``checkpoint.safetensors`` with ``progress.json`` (the same call
resumes) and, at the end, ``landmarks.safetensors`` in the shipped format.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from omote.align.landmarks import (
    FACE_CENTER_MM,
    FACE_SIZE_MM,
    FINDER_SIZE,
    FINDER_STRIDE,
    LANDMARK_SIZE,
    LANDMARK_WINDOW_MM,
    SIZE_UNIT_PX,
    FaceFinder,
    LandmarkNet,
)
from omote.align.views import color_planes, geometry_view, robust_ball, view_rotation
from omote.config import to_json
from omote.errors import CheckpointError, OutputError
from omote.files import atomic_path, locked, make_folder, reading
from omote.head.model import HeadModel
from omote.tools.landmark_scans import HeadPoints, SimulatedScan, draw_other, draw_scan

CELLS = FINDER_SIZE // FINDER_STRIDE
FRONTAL_COS, IGNORE_COS = math.cos(math.radians(52)), math.cos(math.radians(68))


@dataclass(frozen=True, kw_only=True)
class LandmarkTraining:
    """Settings of the training.

    Attributes:
        steps: number of optimiser steps.
        finder_every: interval of steps in which the finder is trained, since the landmark network needs more steps.
        batch_size: views per network and step.
        views_per_scan: number of views of one simulated scan.
        learning_rate: peak learning rate of AdamW, with cosine decay to zero.
        other_share: share of scans without a head.
        checkpoint_steps: number of steps between checkpoints.
        seed: seed of all random choices.
        threads: number of torch's threads.
        bf16: compute convolutions in bfloat16, in half the time on processors with such instructions.
    """

    steps: int = 7500
    finder_every: int = 2
    batch_size: int = 16
    views_per_scan: int = 4
    learning_rate: float = 2e-3
    other_share: float = 0.15
    checkpoint_steps: int = 200
    seed: int = 0
    threads: int = 1
    bf16: bool = True


@dataclass(frozen=True, kw_only=True)
class LandmarkStep:
    """Losses and errors of one step."""

    step: int
    steps: int
    finder_loss: float
    landmark_loss: float
    landmark_error_mm: float
    views_per_s: float


class Nets(nn.Module):
    """Both networks as one module, named as in the shipped file."""

    def __init__(self) -> None:
        super().__init__()
        self.finder, self.landmarks = FaceFinder(), LandmarkNet()


def finder_views(
    scan: SimulatedScan, rng: np.random.Generator, count: int
) -> Iterator[tuple[Float[np.ndarray, "5 h w"], Float[np.ndarray, "12 c c"]]]:
    """Views of a scan as `find_faces` makes them, with targets: heat, trained-score, offsets, log size, rotation, 1."""
    center, radius = robust_ball(scan.points)
    scale = FINDER_SIZE / (2 * radius) * float(np.exp(rng.uniform(-0.5, 0.15)))
    spread = np.array([4.0, 4.0, 0.0])
    if scan.landmarks is not None and rng.random() < 0.5:  # a window of a larger scan, near the face
        center, scale = FACE_CENTER_MM, float(np.exp(rng.uniform(np.log(11.0), np.log(80.0)))) / FACE_SIZE_MM
        spread = np.array([22.0, 22.0, 14.0])
    turn = Rotation.random(rng=rng).as_matrix()
    for k in range(count):
        direction = rng.standard_normal(3)
        if scan.landmarks is not None and k < (count + 1) // 2:  # half of the views look at the face
            direction = np.array([0, 0, 1.4]) + 0.6 * rng.standard_normal(3)
        rotation = view_rotation(direction / np.linalg.norm(direction))
        angle = rng.uniform(0, 2 * np.pi)
        c, s = np.cos(angle), np.sin(angle)
        rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ rotation
        if scan.landmarks is None:
            rotation = rotation @ turn
        shift = np.array([FINDER_SIZE / 2, FINDER_SIZE / 2, 0.0]) + spread * rng.standard_normal(3)
        view = geometry_view(((scan.points - center) @ rotation.T * scale + shift).astype(np.float32), FINDER_SIZE)
        target = np.zeros((12, CELLS, CELLS), np.float32)
        target[1] = 1.0
        if scan.landmarks is not None:
            _mark(target, scan, rotation, (FACE_CENTER_MM - center) @ rotation.T * scale + shift, scale)
        yield view.planes, target


def _mark(target: np.ndarray, scan: SimulatedScan, rotation: np.ndarray, face_px: np.ndarray, scale: float) -> None:
    cosine = -rotation[2, 2]
    cell = face_px[:2] / FINDER_STRIDE
    column, row = np.floor(cell).astype(int)
    if not (0 <= column < CELLS and 0 <= row < CELLS):
        return
    rows, columns = np.mgrid[:CELLS, :CELLS]
    distance2 = (columns + 0.5 - cell[0]) ** 2 + (rows + 0.5 - cell[1]) ** 2
    size_px = FACE_SIZE_MM * scale
    if cosine < FRONTAL_COS or scan.on_face.sum() < 150:
        if cosine > IGNORE_COS or (cosine >= FRONTAL_COS and scan.on_face.sum() < 150):
            target[1] = np.where(distance2 < 9.0, 0.0, 1.0)
        return
    sigma = max(0.6, 0.12 * size_px / FINDER_STRIDE)
    target[0] = np.exp(-distance2 / (2 * sigma**2))
    target[0, row, column] = 1.0
    target[2], target[3] = cell[0] - columns - 0.5, cell[1] - rows - 0.5
    target[4] = math.log(size_px / SIZE_UNIT_PX)
    target[5:11] = rotation[:, :2].T.reshape(6, 1, 1)
    target[11] = (distance2 < 2.5).astype(np.float32)


def landmark_view(
    scan: SimulatedScan, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "9 h w"], Float[np.ndarray, "68 3"]]:
    """A roughly frontal view, with an error of pose like the finder's, and the exact landmarks in its unit coordinates."""
    assert scan.landmarks is not None
    fine = rng.random() < 0.65  # the second look has a better estimate
    spread = 0.35 if fine else 1.0
    turn = Rotation.from_rotvec(spread * np.deg2rad(15) * rng.standard_normal(3)).as_matrix()
    size = float(np.exp(spread * np.clip(0.16 * rng.standard_normal(), -0.35, 0.35)))
    shift = spread * 14.0 * rng.standard_normal(3)
    flip = np.array([1.0, -1.0, -1.0])

    def place(points: np.ndarray) -> np.ndarray:
        return ((points - FACE_CENTER_MM) @ turn.T * size + shift) * flip

    mm = place(scan.points)
    near = (np.abs(mm) < 0.8 * LANDMARK_WINDOW_MM).all(axis=1)
    pixels = mm[near] * (LANDMARK_SIZE / LANDMARK_WINDOW_MM) + np.array([LANDMARK_SIZE / 2, LANDMARK_SIZE / 2, 0.0])
    view = geometry_view(pixels.astype(np.float32), LANDMARK_SIZE)
    colors = None if scan.colors is None else scan.colors[near]
    return np.concatenate([view.planes, color_planes(view, colors)]), place(scan.landmarks) / (LANDMARK_WINDOW_MM / 2)


def make_batch(
    config: LandmarkTraining, heads: list[HeadPoints], step: int
) -> tuple[tuple[Tensor, Tensor] | None, Tensor, Tensor]:
    """Finder views and targets (in its steps), landmark views and landmarks of a step; a function of its arguments."""
    rng = np.random.default_rng([config.seed, step])
    views: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    landmarks: list[np.ndarray] = []
    wanted = 0 if step % config.finder_every else config.batch_size
    while len(views) < wanted or len(faces) < config.batch_size:
        other = wanted > 0 and rng.random() < config.other_share
        scan = draw_other(rng) if other else draw_scan(heads, rng)
        if len(scan.points) < 300:
            continue
        if len(views) < wanted:
            for image, target in finder_views(scan, rng, config.views_per_scan):
                views.append(image)
                targets.append(target)
        if scan.landmarks is not None and scan.on_face.sum() > 150:
            for _ in range(config.views_per_scan):
                image, truth = landmark_view(scan, rng)
                faces.append(image)
                landmarks.append(truth.astype(np.float32))
    b = config.batch_size
    finder = (torch.from_numpy(np.stack(views[:b])), torch.from_numpy(np.stack(targets[:b]))) if wanted else None
    return finder, torch.from_numpy(np.stack(faces[:b])), torch.from_numpy(np.stack(landmarks[:b]))


def finder_loss(out: Float[Tensor, "b 10 c c"], target: Float[Tensor, "b 12 c c"]) -> Tensor:
    """Penalty-reduced focal loss ("Objects as Points", eq. 1) and L1 of the pose at face cells."""
    logit, heat, trained = out[:, 0], target[:, 0], target[:, 1]
    p = torch.sigmoid(logit).clamp(1e-5, 1 - 1e-5)
    positive = (heat > 0.999).float()
    focal = -positive * (1 - p) ** 2 * p.log() - (1 - positive) * (1 - heat) ** 4 * p**2 * (1 - p).log() * trained
    weight = target[:, 11:12]
    count = weight.sum().clamp(min=1.0)
    regress = (weight * (out[:, 1:3] - target[:, 2:4]).abs()).sum() / count
    size = (weight * (out[:, 3:4] - target[:, 4:5]).abs()).sum() / count
    turn = (weight * (out[:, 4:10] - target[:, 5:11]).abs()).sum() / count
    return focal.sum() / positive.sum().clamp(min=1.0) + 0.5 * regress + size + 0.5 * turn


def landmark_loss(
    points: Float[Tensor, "b 68 3"], log_scale: Float[Tensor, "b 68"], truth: Float[Tensor, "b 68 3"]
) -> Tensor:
    """Laplace negative log likelihood plus an L1 term that keeps gradients of hard points large."""
    error = (points - truth).abs().mean(dim=2)
    log_scale = log_scale.clamp(-6.0, 1.0)
    return (error * torch.exp(-log_scale) + log_scale).mean() + 20.0 * error.mean()


def train_landmarks(config: LandmarkTraining, heads: list[HeadModel], run: Path) -> Iterator[LandmarkStep]:
    """Train or resume in ``run``; yields every step, and writes `landmarks.safetensors` at the end.

    Raises:
        CheckpointError: the checkpoint is damaged.
        OutputError: the folder cannot be written, or another process trains in it.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    make_folder(run)
    with locked(run):
        with atomic_path(run / "config.json") as temporary:
            temporary.write_text(json.dumps(to_json(config), indent=1))
        try:
            yield from _train(config, heads, run)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{run}: cannot be written ({error}); make room and resume") from None


def _train(config: LandmarkTraining, heads: list[HeadModel], run: Path) -> Iterator[LandmarkStep]:
    points = [HeadPoints(h, seed=i) for i, h in enumerate(heads)]
    nets = Nets().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.5x faster on a CPU
    optimizer = torch.optim.AdamW(nets.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    first = _resume(nets, optimizer, run)
    nets.train()

    began, views = time.monotonic(), 0
    with (run / "stats.jsonl").open("a") as log:
        for step in range(first, config.steps):
            warm = min(1.0, (step + 1) / 50)
            rate = config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))
            for group in optimizer.param_groups:
                group["lr"] = rate

            finder, face, truth = make_batch(config, points, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                cells = None if finder is None else nets.finder(finder[0]).float()
                found, log_scale = nets.landmarks(face)
            loss_f = torch.zeros(()) if finder is None or cells is None else finder_loss(cells, finder[1])
            loss_l = landmark_loss(found, log_scale, truth)
            optimizer.zero_grad()
            (loss_f + 0.5 * loss_l).backward()
            nn.utils.clip_grad_norm_(nets.parameters(), 5.0)
            optimizer.step()

            views += config.batch_size * (1 if finder is None else 2)
            error = float((found.detach() - truth).norm(dim=2).mean()) * LANDMARK_WINDOW_MM / 2
            done = LandmarkStep(
                step=step + 1, steps=config.steps, finder_loss=float(loss_f.detach()), landmark_loss=float(loss_l.detach()),
                landmark_error_mm=error, views_per_s=views / (time.monotonic() - began),
            )  # fmt: skip
            if done.step % 20 == 0:
                log.write(json.dumps(vars(done)) + "\n")
                log.flush()
            if done.step % config.checkpoint_steps == 0 or done.step == config.steps:
                _save(nets, optimizer, run, done.step)
            yield done
    export(nets, run / "landmarks.safetensors")


def export(nets: Nets, path: Path) -> None:
    """Write the shipped format: fp16, names ``finder.*`` and ``landmarks.*``."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in nets.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary)


def _save(nets: Nets, optimizer: torch.optim.Optimizer, run: Path, step: int) -> None:
    tensors = dict(nets.state_dict())
    for i, p in enumerate(nets.parameters()):
        for name, value in optimizer.state.get(p, {}).items():
            tensors[f"optimizer.{i}.{name}"] = torch.as_tensor(value)
    with atomic_path(run / "checkpoint.safetensors") as temporary:
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, temporary, metadata={"step": str(step)})


def _resume(nets: Nets, optimizer: torch.optim.Optimizer, run: Path) -> int:
    """Load an existing checkpoint; returns the next step."""
    path = run / "checkpoint.safetensors"
    if not path.exists():
        return 0
    from safetensors import safe_open

    with reading(path, CheckpointError, "not a checkpoint of this training", "delete it to start over"):
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
        tensors = load_file(path)
        nets.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("optimizer.")})
    for i, p in enumerate(nets.parameters()):
        prefix = f"optimizer.{i}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if own:
            optimizer.state[p] = own
    return step

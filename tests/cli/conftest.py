"""A pipeline of nothing but numpy in the place of the trained one: the command line is tested, not the networks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from omote.head.model import HeadModel
from omote.pipelines.result import AvatarResult
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step, Steps
from omote.rendering.appearance import default_appearance
from omote.runs import Stopwatch
from omote.types import Avatar, Camera, Expression, Head, Rgbd

NUM_VERTICES = 4


def tiny_head() -> HeadModel:
    """Make a tetrahedron that has everything a head model has."""
    zeros = np.zeros((NUM_VERTICES, 3), np.float32)
    return HeadModel(
        name="tiny",
        template_mm=np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]], np.float32),
        faces=np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
        uv=np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32),
        faces_uv=np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
        face_part=np.zeros(4, np.uint8),
        identity_mm=zeros[None],
        expression_mm=np.repeat(zeros[None], 52, 0),
        landmark_vertices=np.zeros((68, 3), int),
        landmark_weights=np.full((68, 3), 1 / 3),
    )


def tiny_image() -> Rgbd:
    """Make a flat wall, 0.7 m away."""
    camera = Camera(intrinsics=np.diag([16.0, 16.0, 1.0]), cam_from_world=np.eye(4), width=16, height=16)
    return Rgbd(
        rgb=np.full((16, 16, 3), 0.5), depth_mm=np.full((16, 16), 700.0), mask=np.ones((16, 16), bool), camera=camera
    )


class FakePipeline:
    """Gives back a head at rest and one morph target per expression."""

    calls: list[dict[str, Any]]

    def __init__(self, editor: object, head: HeadModel, complete: object = None) -> None:
        self.head = head

    def __call__(
        self,
        scan: object,
        expressions: Sequence[Expression],
        settings: AvatarSettings,
        *,
        watch: Stopwatch,
        **more: Any,
    ) -> Steps[AvatarResult]:
        self.calls.append({"scan": scan, "expressions": expressions, "settings": settings, **more})
        yield Step(stage="align")
        yield Step(stage="diffuse", done=0, total=2)
        rest = Head(model_name=self.head.name, vertices_mm=self.head.template_mm, inferred=np.zeros(NUM_VERTICES, bool))
        avatar = Avatar(
            neutral=rest,
            morphs_mm={e.category: np.ones((NUM_VERTICES, 3), np.float32) for e in expressions},
            texture=np.full((8, 8, 3), 0.5),
            texture_inferred=np.zeros((8, 8), bool),
        )
        watch.stages_s |= {"align": 0.25, "diffuse": 0.5}
        return AvatarResult(
            avatar=avatar,
            head=self.head,
            appearance=default_appearance(),
            source=tiny_image(),
            generated={e.category: tiny_image() for e in expressions},
            expressions=tuple(expressions),
            facts={"fit/median_mm": 0.4, "fit/p90_mm": 1.2},
        )


class FakeProcess:
    """Instead of a process or thread that loads networks that no test calls."""

    peak_memory_mb = 0.0

    def __init__(self, make_head: object, folder: Path, backend: str) -> None:
        pass

    def close(self) -> None:
        pass

    def _uncalled(self, *_: object, **__: object) -> list[Rgbd]:
        raise AssertionError("no test calls the networks")

    sample_size = 16
    encode = edit = decode = reconstruct = _uncalled


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put the fake in place; gives the list of its calls."""
    calls: list[dict[str, Any]] = []
    FakePipeline.calls = calls
    module = ModuleType("omote.pipelines.rgbd")
    module.RgbdPipeline = FakePipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omote.pipelines.rgbd", module)
    monkeypatch.setattr("omote.rgbd.backends.process.EditingProcess", FakeProcess)
    monkeypatch.setattr("omote.rgbd.backends.thread.EditingThread", FakeProcess)
    monkeypatch.setattr("omote.api.avatars.load_head", lambda path: tiny_head())
    monkeypatch.setattr("omote.asset.glb.write_glb", _write_glb)
    monkeypatch.setattr(AvatarResult, "_write_sheet", lambda self, glb, path: path.write_bytes(b"png"))
    return calls


def _write_glb(avatar: Avatar, model: HeadModel, path: Path, **_: object) -> int:
    return path.write_bytes(b"glTF" + b"\0" * 5000)


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    """Write a scan that reads: a thousand points."""
    path = tmp_path / "scan.xyz"
    np.savetxt(path, np.random.default_rng(0).normal(size=(1000, 3)))
    return path

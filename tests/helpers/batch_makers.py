"""A maker of avatars that needs no network: the shipped head with one expression, or whatever a scan's text asks for."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from omote.batches.picture import write_picture
from omote.errors import AlignmentError, CheckpointError, ScanError
from omote.head.shipped import shipped_head
from omote.pipelines.result import AvatarOutputs, AvatarResult
from omote.progress import Step, Steps
from omote.rendering.appearance import default_appearance
from omote.types import Avatar, Camera, Expression, Head, Rgbd


@dataclass
class TextMaker:
    """Reads a scan as text: a number gives an avatar, a word what it says.

    Attributes:
        log: file to which the name of every scan is added.
        pause_s: time that each avatar takes.
        broken: whether the networks do not load.
    """

    log: Path
    pause_s: float = 0.0
    broken: bool = False

    def load(self) -> None:
        if self.broken:
            raise CheckpointError("weights: missing; train some")
        warm_up()

    def __call__(self, scan: Path) -> Steps[AvatarResult]:
        yield Step(stage="read")
        time.sleep(self.pause_s)
        with self.log.open("a") as file:
            file.write(f"{scan.name}\n")
        try:
            text = (scan / "intrinsics.json" if scan.is_dir() else scan).read_text(errors="replace").strip()
        except OSError as error:
            raise ScanError(f"{scan.name}: {error.strerror}") from None
        if text == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if text == "hang":
            time.sleep(1000)
        if text == "no face":
            raise AlignmentError("no face found with certainty")
        if text == "defect":
            raise IndexError("list index out of range")
        if not text.isdigit():
            raise ScanError(f"{scan.name}: expected a number, got {text[:20]!r}")
        return made(int(text))


@lru_cache(maxsize=1)
def warm_up() -> None:
    """Import and compile what an avatar needs: a process's first one is then as quick as others, as limits of time assume."""
    with tempfile.TemporaryDirectory() as folder:
        glb, result = Path(folder) / "warm.glb", made(0)
        result.save_all(AvatarOutputs(glb=glb))
        write_picture(glb.with_suffix(".jpg"), glb, result.source, result.generated)


def made(number: int) -> AvatarResult:
    head = shipped_head()
    rest = head.template_mm.astype(np.float32)
    smile = np.zeros_like(rest)
    smile[: 100 + number] = 1.0
    camera = Camera(intrinsics=np.diag([16.0, 16.0, 1.0]), cam_from_world=np.eye(4), width=16, height=16)
    image = Rgbd(
        rgb=np.full((16, 16, 3), number % 10 / 10),
        depth_mm=np.full((16, 16), 700.0),
        mask=np.ones((16, 16), bool),
        camera=camera,
    )
    avatar = Avatar(
        neutral=Head(model_name=head.name, vertices_mm=rest, inferred=np.zeros(len(rest), bool)),
        morphs_mm={"happy": smile},
        texture=np.full((8, 8, 3), 0.5),
        texture_inferred=np.zeros((8, 8), bool),
    )
    return AvatarResult(
        avatar=avatar,
        head=head,
        appearance=default_appearance(),
        source=image,
        generated={"happy": image},
        expressions=(Expression(category="happy"),),
        facts={"scan/format": "xyz", "scan/num_points": number, "align/unit": "mm", "align/confidence": 0.98765,
               "align/doubtful": number == 5, "fit/median_mm": 0.123456, "fit/p90_mm": 0.4, "time_s/total": 0.1},
    )  # fmt: skip

"""``omote.avatar`` and ``omote.demo``: from a scan to an avatar."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omote.api.scans import load_head, opened_landmarks, reading
from omote.errors import CheckpointError
from omote.files import check_folder, make_folder
from omote.head.shipped import shipped_head
from omote.pipelines.result import AvatarOutputs, AvatarResult
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step, Steps, finish
from omote.rgbd.protocol import Editor
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, check_weights
from omote.runs import Stopwatch, prefixed, run_facts
from omote.types import Scan

if TYPE_CHECKING:
    from omote.head.model import HeadModel
    from omote.pipelines.base import AvatarPipeline

CANDIDATES = {"multiview": "candidate1", "latent-views": "candidate2"}


def avatar(
    scan: Path | str | Scan,
    settings: AvatarSettings | None = None,
    *,
    own_process: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> AvatarResult:
    """Make an avatar of a scan.

    Args:
        scan: path of a scan, or the result of `omote.read`.
        settings: settings of the avatar; if None, the defaults of `AvatarSettings`.
        own_process: load the networks in a separate process, which saves seconds for a single avatar. A script that does so must
            guard its main part (``if __name__ == "__main__"``).
        on_step: function called with each step.

    Raises:
        ScanError: the file cannot be read.
        AlignmentError: no face was found with confidence.
        ConfigError: an unknown expression, or a text that names none.
        HeadModelError, CheckpointError: a head or weights that do not load.
    """
    return finish(_avatar(scan, settings or AvatarSettings(), own_process=own_process), on_step)


def demo(
    out: Path | str = "out",
    settings: AvatarSettings | None = None,
    *,
    own_process: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> AvatarResult:
    """Make an avatar of a synthetic person seen by a simulated depth camera; everything is written to ``out``.

    Args:
        out: folder for scan/ (the camera's frame), avatar.glb, sheet.png and report.json; made if missing.
        settings: settings of the avatar; the seed also determines the person.
        own_process: load the networks in a separate process, as for `avatar`.
        on_step: function called with each step.

    Raises:
        OutputError: ``out`` cannot be written.
    """
    return finish(_demo(Path(out), settings or AvatarSettings(), own_process=own_process), on_step)


def _demo(out: Path, settings: AvatarSettings, *, own_process: bool) -> Steps[AvatarResult]:
    check_folder(out)
    yield Step(stage="capture")
    from omote.datasets.demo_frame import sensed_frame
    from omote.formats.frame_write import save_rgbd

    frame = sensed_frame(settings.seed, load_head(None))
    make_folder(out)
    save_rgbd(frame, out / "scan")
    outputs = AvatarOutputs(glb=out / "avatar.glb", report=out / "report.json", sheet=out / "sheet.png").checked()
    result = yield from _avatar(out / "scan", settings, own_process=own_process)
    yield from result.saving(outputs)
    return result


def _weights(settings: AvatarSettings) -> Path:
    """Folder of the networks requested by the settings.

    Raises:
        CheckpointError: the folder contains no such networks.
    """
    if settings.pipeline == "rgbd":
        weights = SHIPPED_WEIGHTS if settings.weights is None else settings.weights
        check_weights(weights)
        return weights
    weights = SHIPPED_WEIGHTS / RIVALS / CANDIDATES[settings.pipeline] if settings.weights is None else settings.weights
    if not (weights / "denoiser/config.json").is_file():
        raise CheckpointError(
            f"{weights}: expected the networks of --pipeline {settings.pipeline}; train {CANDIDATES[settings.pipeline]}-cpu "
            "(docs/candidates.md) and give the folder with --weights"
        )
    return weights


def _pipeline(settings: AvatarSettings, weights: Path, head: HeadModel, process: Editor | None) -> AvatarPipeline:
    if settings.pipeline == "rgbd":
        from omote.pipelines.rgbd import RgbdPipeline
        from omote.rgbd.backends.thread import EditingThread

        return RgbdPipeline(
            EditingThread(shipped_head, weights, settings.backend) if process is None else process, head
        )
    from omote.multiview.model import load_view_editor
    from omote.pipelines.latent_views import LatentViewsPipeline
    from omote.pipelines.multiview import MultiviewPipeline

    kind = MultiviewPipeline if settings.pipeline == "multiview" else LatentViewsPipeline
    return kind(load_view_editor(weights, head), head)


def _avatar(scan: Path | str | Scan, settings: AvatarSettings, *, own_process: bool) -> Steps[AvatarResult]:
    wanted, landmarks = settings.wanted(), opened_landmarks(settings.landmarks)
    weights = _weights(settings)
    watch = Stopwatch()
    with ExitStack() as stack:
        process = None
        if own_process and settings.pipeline == "rgbd":
            from omote.rgbd.backends.process import EditingProcess

            process = stack.enter_context(closing(EditingProcess(shipped_head, weights, settings.backend)))
        yield Step(stage="read")
        with watch("read"):
            scan, found = yield from reading(scan, max_depth_mm=settings.max_depth_mm)
        yield Step(stage="load")
        # A scan that cannot be read is refused before anything slow is imported.
        with watch("load"):
            head = load_head(settings.head)
            pipeline = _pipeline(settings, weights, head, process)
        result = yield from pipeline(scan, wanted, settings, landmarks=landmarks, watch=watch)
        run = run_facts(watch, elsewhere_mb=0.0 if process is None else process.peak_memory_mb)
    asked = {
        **vars(settings),
        "expressions": [expression.name for expression in wanted],
        "intensity": [expression.intensity for expression in wanted],
        "landmarks": "estimated" if landmarks is None else "given",
        "head": head.name,
        "weights": settings.weights or "shipped",
    }
    return replace(result, facts={**prefixed("settings", asked), **found, **result.facts, **run})

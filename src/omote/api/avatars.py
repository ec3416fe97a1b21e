"""``omote.avatar`` and ``omote.demo``: from a scan to an avatar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omote.api.scans import load_head, opened_landmarks, reading
from omote.completion.names import BEST, HINT, CompletionName, shipped_completion
from omote.errors import AlignmentError, CheckpointError, ConfigError, ScanError
from omote.files import check_folder, make_folder
from omote.head.shipped import shipped_head
from omote.pipelines.result import AvatarOutputs, AvatarResult
from omote.pipelines.settings import AvatarSettings
from omote.progress import NOTE, Step, Steps, finish
from omote.rgbd.protocol import Editor
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, check_weights
from omote.runs import Stopwatch, prefixed, run_facts
from omote.types import Scan

if TYPE_CHECKING:
    from omote.head.model import HeadModel
    from omote.pipelines.base import AvatarPipeline
    from omote.rgbd.backends.process import EditingProcess

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


def several_avatars(
    scans: Sequence[Path | str],
    settings: AvatarSettings | None = None,
    *,
    own_process: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> Iterator[AvatarResult | ScanError | AlignmentError]:
    """Make avatars of several scans one after the other, with networks that are loaded once; `omote.batch` is for many.

    Args:
        scans: paths of the scans.
        settings: settings of the avatars; if None, the defaults of `AvatarSettings`.
        own_process: load the networks in a separate process, as for `avatar`.
        on_step: function called with each step, of which each scan is a part.

    Yields:
        The avatar of each scan, or the reason why there is none.

    Raises:
        ConfigError: landmarks, which belong to one scan; or as `avatar`.
        HeadModelError, CheckpointError: a head or weights that do not load.
    """
    settings = settings or AvatarSettings()
    if settings.landmarks is not None and len(scans) > 1:
        raise ConfigError("landmarks belong to one scan; give one scan")

    def shown(number: int, step: Step) -> None:
        if on_step is not None:
            name = Path(scans[number]).name
            note = f"{name}: {step.note}" if step.stage == NOTE else f"{name}: {step.stage}"
            on_step(
                Step(stage=step.stage if step.stage == NOTE else "avatars", done=number, total=len(scans), note=note)
            )

    with closing(AvatarMaker(settings, own_process=own_process)) as maker:
        for number, scan in enumerate(scans):
            try:
                yield finish(maker(scan), partial(shown, number))
            except (ScanError, AlignmentError) as error:
                yield error


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
    make_folder(out)
    yield from capturing(settings.seed, out / "scan")
    outputs = AvatarOutputs(glb=out / "avatar.glb", report=out / "report.json", sheet=out / "sheet.png").checked()
    result = yield from _avatar(out / "scan", settings, own_process=own_process)
    yield from result.saving(outputs)
    return result


def capturing(seed: int, folder: Path) -> Steps[None]:
    """Draw a person, capture one frame with a simulated depth camera, and write it to a folder that `avatar` reads."""
    yield Step(stage="capture")
    from omote.datasets.demo_frame import sensed_frame
    from omote.formats.frame_write import save_rgbd

    save_rgbd(sensed_frame(seed, load_head(None)), folder)


def making(scan: Path, settings: AvatarSettings, *, own_process: bool) -> Steps[AvatarResult]:
    """`avatar` as a generator of its steps, whose ``ready`` holds what can be shown meanwhile."""
    return _avatar(scan, settings, own_process=own_process)


def weights_of(settings: AvatarSettings) -> Path:
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


def completion_of(settings: AvatarSettings) -> tuple[CompletionName, Path]:
    """Name of the completion, and folder of its network if it has one.

    Networks complete the shipped head. With another one, ``auto`` leaves the head as the alignment has it.

    Raises:
        ConfigError: weights are given for a completion that reads none.
        CheckpointError: the folder of the weights does not exist.
    """
    given = settings.completion_weights
    name = "restoration" if settings.completion == "auto" and settings.head is not None else settings.completion
    trained = name not in ("none", "restoration")
    if given is not None and not trained:
        raise ConfigError(
            f"completion_weights: expected a completion by a network of the shipped head, got {settings.completion}"
            + (" with --head" if settings.head is not None else "")
        )
    folder = given or shipped_completion(BEST if name == "auto" or not trained else name)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no weights of --completion {settings.completion}; {HINT}, and give RUN/export/completion with "
            "--completion-weights"
        )
    return name, folder


def _pipeline(
    settings: AvatarSettings,
    weights: Path,
    completion: tuple[CompletionName, Path],
    head: HeadModel,
    process: Editor | None,
) -> AvatarPipeline:
    from omote.completion.aligned import AlignedCompletion

    name, network = completion
    complete = AlignedCompletion(name, head, network)
    if settings.pipeline == "rgbd":
        from omote.pipelines.rgbd import RgbdPipeline
        from omote.rgbd.backends.thread import EditingThread

        editor = EditingThread(shipped_head, weights, settings.backend) if process is None else process
        return RgbdPipeline(editor, head, complete)
    from omote.multiview.model import load_view_editor
    from omote.pipelines.latent_views import LatentViewsPipeline
    from omote.pipelines.multiview import MultiviewPipeline

    kind = MultiviewPipeline if settings.pipeline == "multiview" else LatentViewsPipeline
    return kind(load_view_editor(weights, head), head, complete)


def _avatar(scan: Path | str | Scan, settings: AvatarSettings, *, own_process: bool) -> Steps[AvatarResult]:
    with closing(AvatarMaker(settings, own_process=own_process)) as maker:
        return (yield from maker(scan))


class AvatarMaker:
    """Makes avatars of scans, one after the other, with networks that are loaded once.

    Args:
        settings: settings of all avatars.
        own_process: load the networks in a separate process, which saves seconds for a single avatar.

    Raises:
        ConfigError: an unknown expression, or a text that names none.
        CheckpointError: the weights are missing.
    """

    def __init__(self, settings: AvatarSettings, *, own_process: bool = False) -> None:
        self.settings = settings
        self._wanted, self._landmarks = settings.wanted(), opened_landmarks(settings.landmarks)
        self._weights, self._completion = weights_of(settings), completion_of(settings)
        self._process: EditingProcess | None = None
        self._pipeline: AvatarPipeline | None = None
        if own_process and settings.pipeline == "rgbd":
            from omote.rgbd.backends.process import EditingProcess

            self._process = EditingProcess(shipped_head, self._weights, settings.backend)

    def load(self) -> None:
        """Load head and networks now, instead of beside the first scan.

        Raises:
            HeadModelError, CheckpointError: a head or weights that do not load.
        """
        self._loaded().load()

    def __call__(self, scan: Path | str | Scan) -> Steps[AvatarResult]:
        """Make the avatar of a scan.

        Raises:
            ScanError: the file cannot be read.
            AlignmentError: no face was found with confidence.
            HeadModelError, CheckpointError: a head or weights that do not load.
        """
        watch, settings = Stopwatch(), self.settings
        yield Step(stage="read")
        with watch("read"):
            scan, found = yield from reading(scan, max_depth_mm=settings.max_depth_mm)
        yield Step(stage="load", ready={"scan": scan})
        # A scan that cannot be read is refused before anything slow is imported.
        with watch("load"):
            pipeline = self._loaded()
        result = yield from pipeline(scan, self._wanted, settings, landmarks=self._landmarks, watch=watch)
        run = run_facts(watch, elsewhere_mb=0.0 if self._process is None else self._process.peak_memory_mb)
        asked = {
            **vars(settings),
            "expressions": [expression.name for expression in self._wanted],
            "intensity": [expression.intensity for expression in self._wanted],
            "landmarks": "estimated" if self._landmarks is None else "given",
            "head": pipeline.head.name,
            "weights": settings.weights or "shipped",
        }
        return replace(result, facts={**prefixed("settings", asked), **found, **result.facts, **run})

    def close(self) -> None:
        """End the networks' process."""
        if self._process is not None:
            self._process.close()

    def _loaded(self) -> AvatarPipeline:
        if self._pipeline is None:
            head = load_head(self.settings.head)
            self._pipeline = _pipeline(self.settings, self._weights, self._completion, head, self._process)
        return self._pipeline

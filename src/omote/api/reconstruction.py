"""``omote.reconstruct``: the loss of the autoencoder on a scan, which bounds every edit of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

from omote.api.scans import RenderSettings, rendered
from omote.files import all_or_nothing, make_folder
from omote.formats.frame_write import as_bytes, depth_greys, save_rgbd, side_by_side
from omote.pipelines.settings import ScanSettings
from omote.progress import Step, Steps, finish
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend, name_of
from omote.runs import Stopwatch, Value, prefixed, run_facts, write_json
from omote.types import Rgbd, Scan

NETWORK_SIZE_PX = 128
FULL_RED_MM = 5.0


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A scan's image before and after the autoencoder.

    Attributes:
        source: image before the autoencoder.
        image: image after the autoencoder, with the same camera.
        facts: flat report: ``depth/...`` and ``color/...`` errors over the source's valid pixels.
    """

    source: Rgbd
    image: Rgbd
    facts: dict[str, Value]

    def save(self, folder: Path | str) -> None:
        """Write source/, reconstruction/, picture.png and report.json.

        Raises:
            OutputError: one of them cannot be written.
        """
        from PIL import Image

        folder = Path(folder)
        make_folder(folder)
        save_rgbd(self.source, folder / "source")
        save_rgbd(self.image, folder / "reconstruction")
        picture, report = folder / "picture.png", folder / "report.json"
        with all_or_nothing(picture, report) as temporary:
            Image.fromarray(as_bytes(self.picture())).resize(
                (NETWORK_SIZE_PX * 5 * 2, NETWORK_SIZE_PX * 2), Image.Resampling.NEAREST
            ).save(temporary[picture], format="PNG")
            write_json(self.facts, temporary[report])

    def picture(self) -> np.ndarray:
        """A picture of colour and depth before and after, and of the depth error (red: 5 mm or more)."""
        both = self.source.mask & self.image.mask
        share = np.clip(np.abs(self.image.depth_mm - self.source.depth_mm) / FULL_RED_MM, 0, 1) * both
        error = np.stack([share, 0 * share, 0.15 * both], axis=-1)
        return side_by_side(self.source.rgb, self.image.rgb, depth_greys(self.source), depth_greys(self.image), error)

    def summary(self) -> str:
        """The loss of depth and colour in one line."""
        return f"depth {self.facts['depth/mae_mm_metric']:.2f} mm, colour {self.facts['color/psnr_db']:.1f} dB"


@dataclass(frozen=True, kw_only=True)
class ReconstructionSettings(ScanSettings):
    """Settings of the reconstruction.

    Attributes:
        backend: library that runs the networks.
        weights: export folder of a run, to use instead of the shipped weights.
    """

    backend: Backend = "auto"
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None


def reconstruct(
    scan: Path | str | Scan,
    settings: ReconstructionSettings | None = None,
    *,
    on_step: Callable[[Step], None] | None = None,
) -> Reconstruction:
    """Send a scan's RGB-D image through the autoencoder and measure the loss.

    Args:
        scan: path of a scan, or the result of `omote.read`.
        settings: settings of the reconstruction; if None, the defaults of `ReconstructionSettings`.
        on_step: function called with each step.

    Raises:
        ScanError, AlignmentError: as in `omote.avatar`.
        CheckpointError: missing or damaged weights.
    """
    return finish(_reconstruct(scan, settings or ReconstructionSettings()), on_step)


def _reconstruct(scan: Path | str | Scan, settings: ReconstructionSettings) -> Steps[Reconstruction]:
    watch = Stopwatch()
    with watch("render"):
        how = RenderSettings(size=NETWORK_SIZE_PX, unit=settings.unit, landmarks=settings.landmarks)
        source = yield from rendered(scan, how)
    yield Step(stage="load")
    with watch("load"):
        from omote.head.shipped import shipped_head
        from omote.rgbd.load import load_model

        model = load_model(shipped_head(), settings.weights or SHIPPED_WEIGHTS, backend=settings.backend)
    yield Step(stage="autoencode")
    with watch("autoencode"):
        image = model.reconstruct([source])[0]

    from omote.evaluation.metrics import depth_errors, psnr_db

    mask = source.mask[None]
    depth = depth_errors(image.depth_mm[None], source.depth_mm[None], mask)
    asked = {"unit": settings.unit, "backend": settings.backend, "weights": name_of(settings.weights)}
    facts: dict[str, Value] = {
        "depth/mae_mm_metric": float(depth.mae_mm[0]),
        "depth/rmse_mm_metric": float(depth.rmse_mm[0]),
        "color/psnr_db": float(psnr_db(image.rgb[None], source.rgb[None], mask)[0]),
        "mask/iou": float((source.mask & image.mask).sum() / max((source.mask | image.mask).sum(), 1)),
        **prefixed("settings", asked),
        **run_facts(watch),
    }
    return Reconstruction(source=source, image=image, facts=facts)

"""Commands for one scan or person: each is a frozen dataclass whose fields are the options and whose call does the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from omote import api
from omote.api.reconstruction import ReconstructionSettings
from omote.api.samples import SampleSettings
from omote.api.scans import FitOutputs, FitSettings, RenderSettings
from omote.cli.display import Display
from omote.pipelines.result import AvatarOutputs
from omote.pipelines.settings import AvatarSettings

Folder = Annotated[Path, arg(metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class _OfScan:
    """A command for a scan.

    Attributes:
        scan: scan of a face in any unit and orientation, with or without colour.
    """

    scan: Annotated[Positional[Path], arg(metavar="SCAN")]


@dataclass(frozen=True, kw_only=True)
class AvatarCommand(_OfScan):
    """Make an avatar.

    SCAN is a PLY, OBJ, GLB/glTF, STL, OFF, PCD, XYZ, CSV, NPZ, WRL or USDZ file, a zip archive of one, or an RGB-D frame:
    a folder, its JSON file or a recording by Record3D.
    """

    outputs: OmitArgPrefixes[AvatarOutputs]
    settings: OmitArgPrefixes[AvatarSettings] = AvatarSettings()

    def __call__(self) -> None:
        outputs = self.outputs.checked(self.scan)
        with Display() as display:
            result = api.avatar(self.scan, self.settings, own_process=True, on_step=display)
            result.save_all(outputs, on_step=display)
        print(f"{outputs.glb}: {result.summary()}")


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """Make an avatar of a synthetic person.

    Draws a person (by the seed) from the shipped head model, captures one frame with a simulated depth camera, writes it to
    DIR/scan like a user's frame, and makes its avatar: DIR/avatar.glb, DIR/sheet.png, DIR/report.json.

    Attributes:
        out: folder of the results; made if missing.
    """

    out: Folder = Path("out")
    settings: OmitArgPrefixes[AvatarSettings] = AvatarSettings()

    def __call__(self) -> None:
        with Display() as display:
            result = api.demo(self.out, self.settings, own_process=True, on_step=display)
        print(f"{self.out / 'avatar.glb'}: {result.summary()}; pictures in {self.out / 'sheet.png'}")


@dataclass(frozen=True, kw_only=True)
class FitCommand(_OfScan):
    """Fit the head model to a scan.

    The mesh is in millimetres, in the canonical pose and the head model's vertex order.
    """

    outputs: OmitArgPrefixes[FitOutputs]
    settings: OmitArgPrefixes[FitSettings] = FitSettings()

    def __call__(self) -> None:
        outputs = self.outputs.checked(self.scan)
        with Display() as display:
            result = api.fit(self.scan, self.settings, on_step=display)
            result.save_all(outputs)
        print(f"{outputs.mesh}: {result.summary()}")


@dataclass(frozen=True, kw_only=True)
class RenderCommand(_OfScan):
    """Render a scan to an RGB-D image.

    Writes color.png, depth.png (16 bits), intrinsics.json and picture.png, a picture of colour and depth; `omote` reads the
    folder as a scan.

    Attributes:
        out: folder of the image; made if missing.
    """

    out: Folder
    settings: OmitArgPrefixes[RenderSettings] = RenderSettings()

    def __call__(self) -> None:
        api.check_folder(self.out)
        with Display() as display:
            image = api.render(self.scan, self.settings, on_step=display)
        api.save_rgbd(image, self.out)
        print(f"{self.out}: {image.camera.width} × {image.camera.height}, {int(image.mask.sum()):,} pixels with depth")


@dataclass(frozen=True, kw_only=True)
class ReconstructCommand(_OfScan):
    """Measure the autoencoder on a scan.

    Writes source/ and reconstruction/ (RGB-D frames), picture.png (both images and their difference) and report.json.

    Attributes:
        out: folder of the results; made if missing.
    """

    out: Folder
    settings: OmitArgPrefixes[ReconstructionSettings] = ReconstructionSettings()

    def __call__(self) -> None:
        api.check_folder(self.out)
        with Display() as display:
            result = api.reconstruct(self.scan, self.settings, on_step=display)
        result.save(self.out)
        print(f"{self.out}: {result.summary()}")


@dataclass(frozen=True, kw_only=True)
class SampleCommand:
    """Sample synthetic persons.

    The same network samples each person at rest and edits it into the expressions. Writes DIR/person_000/neutral/ and so on
    (RGB-D frames that `omote avatar` reads), DIR/sheet.png and DIR/report.json.

    Attributes:
        out: folder of the results; made if missing.
    """

    out: Folder
    settings: OmitArgPrefixes[SampleSettings] = SampleSettings()

    def __call__(self) -> None:
        api.check_folder(self.out)
        with Display() as display:
            result = api.sample(self.settings, on_step=display)
        result.save(self.out)
        print(f"{self.out}: {result.summary()}; pictures in {self.out / 'sheet.png'}")

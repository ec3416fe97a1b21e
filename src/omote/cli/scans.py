"""Commands of one scan or person: a frozen dataclass each, whose fields are the options and whose call does the work."""

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
    """A command of a scan.

    Attributes:
        scan: the face: any unit, any orientation, with or without colour.
    """

    scan: Annotated[Positional[Path], arg(metavar="SCAN")]


@dataclass(frozen=True, kw_only=True)
class AvatarCommand(_OfScan):
    """Make an avatar.

    SCAN is a PLY, OBJ, GLB/glTF, STL, OFF, PCD, XYZ, CSV, NPZ, WRL or USDZ file, a zip archive of one, or an RGB-D frame: a
    folder, its JSON file or a recording of Record3D.
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

    Draws a person (by the seed) from the shipped head model, takes one frame with a simulated depth camera, writes it to
    DIR/scan as any user's frame, and makes the avatar of that: DIR/avatar.glb, DIR/sheet.png, DIR/report.json.

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

    The mesh is in the head model's vertex order, in millimetres, in the canonical pose.
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

    Writes color.png, depth.png (16 bits), intrinsics.json and a picture of both, picture.png; `omote` reads the folder
    back as a scan.

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

    Writes source/ and reconstruction/ (RGB-D frames), picture.png (both, and their difference) and report.json.

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

    Each is sampled at rest and edited into the expressions by the same network. Writes DIR/person_000/neutral/ and so on
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

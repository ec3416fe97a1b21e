"""Commands for one scan or person: each is a frozen dataclass whose fields are the options and whose call does the work."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from omote import api
from omote.api.batches import BatchSettings
from omote.api.fusion import FuseSettings
from omote.api.reconstruction import ReconstructionSettings
from omote.api.samples import SampleSettings
from omote.api.scans import FitSettings, MeshOutputs, RenderSettings
from omote.asset.file_settings import Compression
from omote.cli.display import AVATAR_STAGES, SCAN_STAGES, SHEET_STAGE, Display
from omote.errors import ConfigError, OmoteError, ScanError
from omote.files import make_folder
from omote.pipelines.result import AvatarOutputs
from omote.pipelines.settings import AvatarSettings
from omote.shards.mapping import Execution

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
    a folder, its JSON file or a recording by Record3D; a folder of several frames of one head is fused first (`omote fuse`). With
    --out-dir DIR instead of --out, several scans give DIR/NAME.glb and DIR/NAME.json each (`omote avatar --out-dir DIR --help`);
    `omote batch` is for many.
    """

    outputs: OmitArgPrefixes[AvatarOutputs]
    settings: OmitArgPrefixes[AvatarSettings] = AvatarSettings()

    def __call__(self) -> None:
        outputs = self.outputs.checked(self.scan)
        stages = {name: s for name, s in AVATAR_STAGES.items() if name != "capture"}
        with Display(stages=stages | (SHEET_STAGE if outputs.sheet else {})) as display:
            result = api.avatar(self.scan, self.settings, own_process=True, on_step=display)
            result.save_all(outputs, on_step=display)
        print(f"{outputs.glb}: {result.summary()}")


@dataclass(frozen=True, kw_only=True)
class AvatarsCommand:
    """Make avatars of several scans.

    Each SCAN gives DIR/NAME.glb and DIR/NAME.json, its report. A scan without an avatar is one line, and the others are made.

    Attributes:
        scans: scans of faces, as for a single avatar.
        out_dir: folder of the results; made if missing.
        sheets: write DIR/NAME.png, a picture of the source and every expression, too.
        compress: compression of the GLB files, as for a single avatar.
        keep_neutral: keep morph targets that move nothing, such as neutral.
    """

    scans: Annotated[Positional[tuple[Path, ...]], arg(metavar="SCAN ...")]
    out_dir: Folder
    sheets: bool = False
    compress: Compression = "none"
    keep_neutral: bool = False
    settings: OmitArgPrefixes[AvatarSettings] = AvatarSettings()

    def __call__(self) -> None:
        outputs = self._outputs()
        failed = []
        with Display() as display:
            made = api.several_avatars(self.scans, self.settings, own_process=True, on_step=display)
            for scan, files, result in zip(self.scans, outputs, made, strict=True):
                if isinstance(result, OmoteError):
                    failed.append(scan)
                    display.say(f"{scan}: {result}")
                    continue
                result.save_all(files)
                display.say(f"{files.glb}: {result.summary()}", error=False)
        if failed:
            raise ScanError(
                f"{len(failed)} of {len(self.scans)} scans gave no avatar: {', '.join(map(str, failed))[:300]}"
            )

    def _outputs(self) -> list[AvatarOutputs]:
        """Files of each scan.

        Raises:
            ConfigError: no scans, or two of the same name.
            OutputError: the folder cannot be written.
        """
        if not self.scans:
            raise ConfigError("expected scans before --out-dir, got none; give at least one")
        stems = [scan.name if scan.is_dir() else scan.stem for scan in self.scans]
        if twice := [stem for stem, count in Counter(stems).items() if count > 1]:
            raise ConfigError(f"two scans are named {twice[0]}; rename one, or take `omote batch`")
        api.check_folder(self.out_dir)
        make_folder(self.out_dir)
        return [
            AvatarOutputs(
                glb=self.out_dir / f"{stem}.glb",
                report=self.out_dir / f"{stem}.json",
                sheet=self.out_dir / f"{stem}.png" if self.sheets else None,
                compress=self.compress,
                keep_neutral=self.keep_neutral,
            ).checked(scan)
            for scan, stem in zip(self.scans, stems, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class BatchCommand:
    """Make avatars of many scans, in processes that may crash.

    SCANS is a folder of scans, RGB-D frames or tars of a WebDataset; a list with a path per line (.txt); or a tar. Writes
    DIR/shards (GLB, report and thumbnail of each scan), DIR/table.csv (what worked, and why not) and DIR/index.html (all
    thumbnails, with filters). The same command resumes after an interrupt; see docs/batch.md.

    Attributes:
        scans: folder, list or tar of scans.
        out: folder of the results; made if missing.
    """

    scans: Annotated[Positional[Path], arg(metavar="SCANS")]
    out: Folder
    settings: OmitArgPrefixes[BatchSettings] = BatchSettings()
    avatars: OmitArgPrefixes[AvatarSettings] = AvatarSettings()
    execution: OmitArgPrefixes[Execution] = Execution()

    def __call__(self) -> None:
        with Display() as display:
            result = api.batch(
                self.scans, self.out, self.settings, self.avatars, execution=self.execution, on_step=display
            )
        print(f"{self.out}: {result.summary()}; all pictures: {self.out / 'index.html'}")


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
        with Display(stages=AVATAR_STAGES | SHEET_STAGE) as display:
            result = api.demo(self.out, self.settings, own_process=True, on_step=display)
        print(f"{self.out / 'avatar.glb'}: {result.summary()}; pictures in {self.out / 'sheet.png'}")


@dataclass(frozen=True, kw_only=True)
class FitCommand(_OfScan):
    """Fit the head model to a scan.

    The mesh is in millimetres, in the canonical pose and the head model's vertex order.
    """

    outputs: OmitArgPrefixes[MeshOutputs]
    settings: OmitArgPrefixes[FitSettings] = FitSettings()

    def __call__(self) -> None:
        outputs = self.outputs.checked(self.scan)
        with Display(stages={name: SCAN_STAGES[name] for name in ("read", "align")}) as display:
            result = api.fit(self.scan, self.settings, on_step=display)
            result.save_all(outputs)
        print(f"{outputs.mesh}: {result.summary()}")


@dataclass(frozen=True, kw_only=True)
class FuseCommand:
    """Fuse several depth frames of one head to one scan.

    FRAMES is a folder of frames (a folder each, a JSON file each, or intrinsics.json with color/ and depth/), or a recording by
    Record3D. Their poses are found; poses in the files are used where they agree with the surfaces. The mesh is in millimetres
    and a scan that every command reads; `omote avatar FRAMES` does the same on the way.

    Attributes:
        frames: folder of depth frames of one head that keeps still, or a recording.
    """

    frames: Annotated[Positional[Path], arg(metavar="FRAMES")]
    outputs: OmitArgPrefixes[MeshOutputs]
    settings: OmitArgPrefixes[FuseSettings] = FuseSettings()

    def __call__(self) -> None:
        outputs = self.outputs.checked(self.frames)
        with Display() as display:
            result = api.fuse(self.frames, self.settings, on_step=display)
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
        with Display(stages={name: SCAN_STAGES[name] for name in ("read", "align", "render")}) as display:
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
        with Display(stages=SCAN_STAGES) as display:
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

"""Where results go: names are checked before any work begins; a command's files appear together or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from omote.errors import OutputError
from omote.files import check_file, check_folder


@dataclass(frozen=True, kw_only=True)
class AvatarOutputs:
    """Files of `omote avatar`.

    Attributes:
        glb: the avatar.
        report: JSON, or None.
        sheet: PNG, or None.
        meshes: folder of a PLY and an OBJ per expression, or None.
    """

    glb: Path
    report: Path | None = None
    sheet: Path | None = None
    meshes: Path | None = None

    def checked(self, scan: Path | None = None) -> AvatarOutputs:
        """Return itself if all of it can be written.

        Raises:
            OutputError: a wrong suffix, a folder that is missing or not writable, or two outputs of one name.
        """
        check_file(self.glb, (".glb",))
        check_file(self.report, (".json",))
        check_file(self.sheet, (".png",))
        _check_distinct(scan, self.glb, self.report, self.sheet)
        if self.meshes is not None:
            check_folder(self.meshes)
        return self


@dataclass(frozen=True, kw_only=True)
class FitOutputs:
    """Files of `omote fit`.

    Attributes:
        mesh: PLY or OBJ.
        report: JSON, or None.
    """

    mesh: Path
    report: Path | None = None

    def checked(self, scan: Path | None = None) -> FitOutputs:
        """Return itself if all of it can be written.

        Raises:
            OutputError: as `AvatarOutputs.checked`.
        """
        check_file(self.mesh, (".ply", ".obj"))
        check_file(self.report, (".json",))
        _check_distinct(scan, self.mesh, self.report)
        return self


def _check_distinct(*paths: Path | None) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        if path is None:
            continue
        key = os.path.realpath(path)
        if key in seen:
            raise OutputError(f"cannot write {path}: it is also the name of {seen[key]}; give different names")
        seen[key] = path

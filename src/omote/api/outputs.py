"""Where results go: names are checked before any work begins; a command's files appear together or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from omote.errors import OutputError
from omote.files import atomic_path


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


def check_file(path: Path | None, suffixes: Sequence[str]) -> None:
    """Check that a file of one of the ``suffixes`` can be written at ``path``; None passes.

    Raises:
        OutputError: it cannot; the message says what to give.
    """
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {path}: expected a name that ends in {' or '.join(suffixes)}; rename it")
    folder = path.parent
    try:
        if not folder.is_dir():
            raise OutputError(f"cannot write {path}: the folder {folder} does not exist; create it first")
        if path.is_dir():
            raise OutputError(f"cannot write {path}: expected a file name, got a folder; give a file name")
        path.exists()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; give another name") from error
    _check_writable(folder, path)


def check_folder(path: Path) -> None:
    """Check that files can be written in the folder ``path``, or that it can be made.

    Raises:
        OutputError: it cannot.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"cannot write in {path}: expected a folder, got a file; give another name")
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"cannot make the folder {path}: {existing} is not a folder; give another name")
    _check_writable(existing, path)


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        OutputError: no permission, no space, or a file of that name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}; give another name") from error


@contextmanager
def all_or_nothing(*paths: Path) -> Iterator[Mapping[Path, Path]]:
    """Give a temporary path for each of ``paths``; they get their names together, when the block ends well.

    Raises:
        OutputError: one of them cannot be written; then none is there (unless it was there before).
    """
    with ExitStack() as stack:
        yield {path: stack.enter_context(atomic_path(path)) for path in paths}


def _check_writable(folder: Path, path: Path) -> None:
    # Permission bits do not tell of read-only file systems, nor anything to root: try it.
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from error


def _check_distinct(*paths: Path | None) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        if path is None:
            continue
        key = os.path.realpath(path)
        if key in seen:
            raise OutputError(f"cannot write {path}: it is also the name of {seen[key]}; give different names")
        seen[key] = path

"""Atomic output: a file is either written whole under its name or not there at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omote.errors import OutputError

_WAYS_OUT = {
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "no space left on the device; free some or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than allowed here; choose another folder",
    errno.ENOENT: "the folder does not exist; create it first",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.ENAMETOOLONG: "the file name is too long",
}


def _fail(path: Path, error: OSError) -> OutputError:
    way_out = _WAYS_OUT.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"cannot write {path}: {way_out}")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary path to write to; when the block ends well, it becomes ``path`` in one step.

    The temporary file lies in the same folder (so that the final rename cannot cross file systems), keeps the suffix
    (so that libraries which choose a format by it still do) and is gone after any error, an interrupt included.

    Args:
        path: the file to write; its folder must exist. An existing file is replaced, a symlink's target is.

    Yields:
        An existing empty file to write.

    Raises:
        OutputError: no permission, no space, no such folder, or ``path`` is not a regular file. An `OSError` raised
            inside the block counts as a failed write too, whatever file it came from.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {path}: expected a file name, got a folder or a device; give a file name")
    # A long name must not fail only because the temporary one is longer.
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(6)}{target.suffix[:20]}")
    try:
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(target)
        except OSError as error:
            raise _fail(Path(path), error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

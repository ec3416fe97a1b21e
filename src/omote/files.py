"""Atomic output: a file is either written whole under its name or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from omote.errors import OmoteError, OutputError

MOST_REASON = 100
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
    # Libraries that count bytes themselves give no number: "1536 requested and 0 written".
    way_out = _WAYS_OUT.get(error.errno or 0, error.strerror or f"{error}; is the disk full?")
    return OutputError(f"cannot write {path}: {way_out}")


@contextmanager
def reading(path: Path | str, kind: type[OmoteError], problem: str, way_out: str) -> Iterator[None]:
    """Turn any exception of a parser into a one-line error; our own errors pass. Devices and pipes are not opened.

    Args:
        path: file or folder, for the message.
        kind: class of the error.
        problem: description of a file that does not parse, such as "not a whole shard".
        way_out: advice for that case.

    Raises:
        OmoteError: an error of that class, with the exception as its cause.
    """
    try:
        refuse_special(path)
        yield
    except (
        OmoteError,
        NameError,
        ImportError,
    ):  # our own error, a defect, or a library that is not installed: the file is not the cause
        raise
    # Parsers of damaged files raise many kinds: KeyError, OverflowError, zlib.error, tokenize.TokenError.
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise kind(f"{path}: cannot be read ({error.strerror}); check the path") from error
        reason = " ".join(str(error).split())[:MOST_REASON]
        if isinstance(error, KeyError) or not reason:
            reason = f"{type(error).__name__} {reason}".strip()
        raise kind(f"{path}: {problem} ({reason}); {way_out}") from error


def refuse_special(path: Path | str) -> None:
    """Refuse FIFOs, devices and sockets, as a file or in a folder: reading one may never end.

    Raises:
        OSError: there is one, as described in ``strerror``.
    """
    place = Path(path)
    for entry in (place, *(place.iterdir() if place.is_dir() else ())):
        if entry.exists() and not (entry.is_file() or entry.is_dir()):
            raise OSError(errno.EINVAL, f"{entry.name} is a device or pipe, no file", str(path))


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def refuse_links(folder: Path) -> None:
    """Refuse symbolic links among a run's output files, which would write elsewhere.

    Raises:
        OutputError: the folder contains a symbolic link.
    """
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_symlink():
            raise OutputError(
                f"cannot write in {folder}: {entry.name} is a symbolic link; put what it points to in its place"
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes for the duration of the block; a dead process releases its lock.

    Raises:
        OutputError: another process works in the folder, the lock cannot be written, or the folder contains symbolic links.
    """
    from filelock import FileLock, Timeout

    refuse_links(folder)
    # The generator that holds the lock may be closed in another thread.
    lock = FileLock(folder / ".lock", blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"{folder}: another process is at work there; wait until it ends, or give another folder"
        ) from None
    except OSError as error:
        raise _fail(folder, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock file among all processes for the duration of the block; a dead process releases it.

    Args:
        path: the lock file, which is removed afterwards.
        wait: whether to wait for the lock; otherwise false is yielded if another process holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, blocking=wait)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends without error, it becomes ``path`` in one step.

    The temporary file lies in the same folder (so that the final rename stays within one file system), keeps the suffix (so that
    libraries that choose a format by it still do) and is removed after any error, including an interrupt.

    Args:
        path: file to write, in an existing folder. An existing file is replaced. A symbolic link is replaced too, and its
            target is not touched: a link planted in a folder must not redirect the output.

    Yields:
        An existing empty file to write.

    Raises:
        OutputError: no permission, no space, no such folder, or ``path`` is not a regular file. An `OSError` raised inside the
            block counts as a failed write too, whatever its file.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {path}: expected a file name, got a folder or a device; give a file name")
    # A long name must not fail only because the temporary name is longer.
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


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a new folder to fill; when the block ends without error, it becomes ``path`` in one step.

    Args:
        path: folder to write. A partial folder left by a killed process is removed by the next process with its number.
        replace: replace an existing folder of that name, which only one process at a time may do. Otherwise a folder that another
            process makes meanwhile is kept, for work whose result is always the same.

    Raises:
        OutputError: no permission or no space; ``path`` is unchanged. An `OSError` raised inside the block counts too.
    """
    number = "" if replace else f".{os.getpid()}"
    new, old = (path.with_name(f".{path.name}{number}.{state}") for state in ("partial", "replaced"))
    try:
        for left in (new, old):
            if left.is_symlink():
                left.unlink()
            elif left.exists():
                shutil.rmtree(left)
        new.mkdir(parents=True)
        yield new
        if replace and path.is_symlink():
            path.unlink()
        elif replace and path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if replace or not path.is_dir():
                raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _fail(path, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_file(path: Path | None, suffixes: Sequence[str]) -> None:
    """Check that a file of one of the ``suffixes`` can be written at ``path``; None passes.

    Raises:
        OutputError: it cannot be written; the message says what to give.
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


def check_distinct(*paths: Path | None) -> None:
    """Check that no two paths are the same; None is ignored.

    Raises:
        OutputError: two paths are the same.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        if path is None:
            continue
        key = os.path.realpath(path)
        if key in seen:
            raise OutputError(f"cannot write {path}: it is also the name of {seen[key]}; give different names")
        seen[key] = path


def check_folder(path: Path) -> None:
    """Check that files can be written in the folder ``path``, or that it can be made.

    Raises:
        OutputError: they cannot be written, or it cannot be made.
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
    """Yield a temporary path for each of ``paths``; they are renamed together when the block ends without error.

    Raises:
        OutputError: one of them cannot be written; then none is written, and existing files are kept.
    """
    with ExitStack() as stack:
        yield {path: stack.enter_context(atomic_path(path)) for path in paths}


def _check_writable(folder: Path, path: Path) -> None:
    # Permission bits do not show read-only file systems, and mean nothing to root, so a write is tried.
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from error

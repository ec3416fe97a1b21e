"""Errors that a user can act on: one line with what was expected, what was found, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

NO_MORE_THREADS = "the system gives no more processes or threads; close other programs or raise the limit (ulimit -u)"
NO_MORE_MEMORY = "this computer's memory is used up; give a smaller scan or close other programs"


class OmoteError(Exception):
    """Base of all errors caused by input; the command line prints one line and exits with code 2."""


class ScanError(OmoteError):
    """A scan file that cannot be read, or contains nothing usable."""


class AlignmentError(OmoteError):
    """No face was found with enough confidence; the message says what to give (landmarks, unit, crop)."""


class HeadModelError(OmoteError):
    """A head model file that is missing, of another version, or of an unknown layout."""


class ConfigError(OmoteError):
    """A configuration with an unknown key or a value out of range."""


class CheckpointError(OmoteError):
    """A checkpoint that is missing, truncated, or of another architecture."""


class OutputError(OmoteError):
    """An output that cannot be written: no permission, no space, no such folder."""


class DatasetError(OmoteError):
    """A dataset folder without a known layout, or without usable scans."""


@contextmanager
def of_extra(name: str) -> Iterator[None]:
    """A block that imports packages of an extra: if one is missing, the error names the extra.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; pip install 'omote[{name}]'") from None


def in_one_line(error: BaseException) -> str | None:
    """The line for an error that a user can act on; None for any other, which is a defect."""
    if isinstance(error, OmoteError):
        return str(error)
    if isinstance(error, MemoryError):
        return NO_MORE_MEMORY
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return NO_MORE_THREADS
    if not isinstance(error, OSError):
        return None
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space left on the device; free some or choose another folder"
    if error.errno == errno.EAGAIN:  # no process could be started
        return NO_MORE_THREADS
    if "temporary directory" in str(error):
        return "no folder for temporary files can be written; set TMPDIR to one that can"
    return f"{where}{error.strerror or error}"

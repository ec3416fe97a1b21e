"""Errors that a user can act on: one line with what was expected, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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

"""Uploads: multipart forms written to disk as they arrive, within limits of bytes, files and patience."""

from __future__ import annotations

import asyncio
import os
import re
import time
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from omote.errors import OmoteError, of_extra
from omote.formats.read import FORMATS

MOST_FILES, MOST_FORM_BYTES, LONGEST_NAME = 64, 256 << 10, 120
PATIENCE_S = 30.0  # without a byte
LEAST_BYTES_PER_S = 8_000  # on the whole, after the first half minute
SCAN = "scan"


class UploadError(OmoteError):
    """An upload that is refused.

    Attributes:
        status: HTTP status of the answer.
    """

    def __init__(self, line: str, status: int = 400) -> None:
        super().__init__(line)
        self.status = status


@dataclass(kw_only=True)
class Upload:
    """A form as it was received.

    Attributes:
        fields: text fields by name.
        files: what the user calls each file; the files themselves are called 0, 1, … in the folder.
        num_bytes: bytes of the request so far.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    num_bytes: int = 0


async def received(body: AsyncIterator[bytes], content_type: str, folder: Path, most_bytes: int) -> Upload:
    """Receive a form; files go into a folder under numbers.

    Args:
        body: chunks of the request's body.
        content_type: its header.
        folder: an existing empty folder.
        most_bytes: largest body.

    Raises:
        UploadError: no form, too large, too slow, too many files, or damaged.
        OSError: the files cannot be written.
    """
    found = re.search(r'boundary="?([^";]{1,70})"?', content_type)
    if not content_type.startswith("multipart/form-data") or not found:
        raise UploadError("expected multipart/form-data with a boundary, or application/json", 415)
    with of_extra("studio"):
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

    upload, parts = Upload(), _Parts(folder)
    parser = MultipartParser(found[1].encode("latin-1"), parts.callbacks())  # type: ignore[arg-type]
    start = time.monotonic()
    try:
        async for chunk in _patient(body):
            upload.num_bytes += len(chunk)
            if upload.num_bytes > most_bytes:
                raise too_large(most_bytes)
            elapsed_s = time.monotonic() - start
            if elapsed_s > PATIENCE_S and upload.num_bytes < LEAST_BYTES_PER_S * elapsed_s:
                raise UploadError("the upload is too slow; try again on a faster connection", 408)
            try:
                # A large chunk is written in another thread: a slow disk holds up no other client.
                await asyncio.to_thread(parser.write, chunk)
            except FormParserError as error:
                raise UploadError(f"the form is damaged ({str(error)[:80]})") from None
        try:
            parser.finalize()
        except FormParserError:
            raise UploadError("the upload broke off; try again") from None
        if not parts.whole:
            raise UploadError("the upload broke off; try again")
    finally:
        parts.close()
    upload.fields, upload.files = parts.fields, parts.files
    return upload


def too_large(most_bytes: int) -> UploadError:
    """The refusal of an upload over the cap."""
    return UploadError(f"expected at most {most_bytes >> 20:,} MB, got more; thin the scan first", 413)


async def _patient(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        try:
            yield await asyncio.wait_for(anext(body), PATIENCE_S)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise UploadError(f"nothing arrived for {PATIENCE_S:.0f} s; try again", 408) from None


class _Parts:
    """The parts of a form, as the parser calls them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fields: dict[str, str] = {}
        self.files: list[str] = []
        self.whole = False
        self._file: BinaryIO | None = None
        self._header, self._value = b"", b""
        self._disposition = b""
        self._text: bytearray | None = None
        self._name = ""
        self._form_bytes = 0

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin, "on_header_field": self._on_header, "on_header_value": self._on_value,
            "on_header_end": self._header_end, "on_headers_finished": self._headers_finished, "on_part_data": self._data,
            "on_part_end": self._end, "on_end": self._all,
        }  # fmt: skip

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._header, self._value, self._disposition = b"", b"", b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            self._text = bytearray()
            return
        if len(self.files) == MOST_FILES:
            raise UploadError(f"expected at most {MOST_FILES} files, got more; pack them in a zip archive", 413)
        name = options[b"filename"].decode("utf-8", "replace")
        self._file = open(self.folder / str(len(self.files)), "xb")  # noqa: SIM115 (until the part ends)
        self.files.append(shown_name(name))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._form_bytes += end - start
        if self._form_bytes > MOST_FORM_BYTES:
            raise UploadError(f"expected at most {MOST_FORM_BYTES >> 10} kB of text, got more", 413)
        if self._text is not None:
            self._text += data[start:end]

    def _end(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.close()
        elif self._text is not None:
            if len(self.fields) >= 16:
                raise UploadError("expected the fields request and file, got many more")
            self.fields[self._name] = self._text.decode("utf-8", "replace")
            self._text = None

    def _all(self) -> None:
        self.whole = True


def shown_name(name: str) -> str:
    """The last part of a file's name for people to read: one line, no control characters, not long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    clean = "".join(
        c for c in last if c.isprintable() and c not in "/\\\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    if len(clean) > LONGEST_NAME:
        stem, dot, suffix = clean.rpartition(".")
        clean = stem[: LONGEST_NAME - 1 - len(suffix[:10])] + dot + suffix[:10] if dot else clean[:LONGEST_NAME]
    return clean.strip() or "scan"


def packed(files: list[str], folder: Path) -> str:
    """Turn the received files into one scan: the only file, or a zip archive of all; what it is called for people.

    On disk the scan is ``scan`` with a suffix that omote reads; names of users are only entries of the archive, which the reader
    of archives checks.

    Raises:
        UploadError: no file, or one of a suffix that omote does not read.
    """
    if not files:
        raise UploadError("expected a scan, got no file; choose one")
    if len(files) == 1:
        suffix = Path(files[0]).suffix.lower()
        if suffix not in FORMATS:
            # The reader's own words need a file of that suffix; it says how to convert it.
            suffix = suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
        (folder / "0").rename(folder / f"{SCAN}{suffix}")
        return files[0]
    if len({name.casefold() for name in files}) < len(files):
        raise UploadError("two of the files have the same name; pack them in a zip archive")
    with (folder / f"{SCAN}.zip").open("xb") as out:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for number, name in enumerate(files):
                archive.write(folder / str(number), name)
                (folder / str(number)).unlink()
        out.flush()
        os.fsync(out.fileno())
    mains = [name for name in files if Path(name).suffix.lower() in FORMATS]
    return mains[0] if len(mains) == 1 else files[0]


def scan_in(folder: Path) -> Path | None:
    """The scan of a job's folder: a file, or the folder of a made-up person's frame."""
    return next((path for path in sorted(folder.iterdir()) if path.stem == SCAN), None)


def share_scan(source: Path, folder: Path) -> None:
    """Put the scan of one job's folder into another's; the bytes are shared, and go with the last of the two.

    Raises:
        UploadError: it is no longer there.
    """
    scan = scan_in(source) if source.is_dir() else None
    if scan is None:
        raise UploadError("the scan of that job has been deleted; upload it again", 410)
    for path in [scan] if scan.is_file() else sorted(scan.rglob("*")):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            os.link(path, target)

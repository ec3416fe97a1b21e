"""Numbers in text files, read in blocks of lines so that memory stays bounded for any file."""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from omote.errors import ScanError

BLOCK_BYTES = 4 << 20
MAX_NUMBERS = 160_000_000
LINE_ENDS = bytes.maketrans(b"\r", b"\n")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@runtime_checkable
class Bytes(Protocol):
    """Source of text bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""


class _Transcoded:
    """UTF-16 text as UTF-8 bytes."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read(self, size: int) -> bytes:
        out: list[bytes] = []
        while (left := size - sum(map(len, out))) > 3 and (data := self._file.read(max(left // 2, 4))):
            out.append(self._decoder.decode(data).encode("utf-8", "replace"))
        return b"".join(out)


def after_mark(file: BinaryIO) -> Bytes:
    """Skip a text file's byte order mark; UTF-16, written by spreadsheets on Windows, is converted to UTF-8."""
    start = file.tell()
    head = file.read(3)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            file.seek(start + len(mark))
            return file if encoding == "utf-8" else _Transcoded(file, encoding)
    file.seek(start)
    return file


class LineBlocks:
    """Iterates over blocks of whole lines of a binary file, with every kind of line end as ``\\n``.

    Args:
        file: binary file, positioned at the first line to read.
        path: path of the file, for messages.
        convert: function applied to every block.
    """

    def __init__(self, file: Bytes, path: Path, *, convert: Callable[[bytes], bytes] | None = None) -> None:
        self.path = path
        self.convert = convert
        self._file = file
        self._rest = b""

    def push_back(self, block: bytes) -> None:
        """Return the unused end of a block; the next one starts with it."""
        self._rest = block + self._rest

    def __iter__(self) -> Iterator[bytes]:
        while True:
            read = self._file.read(BLOCK_BYTES)
            more = len(read) > BLOCK_BYTES - 8  # transcoded text may end a character earlier
            block = self._rest + read.replace(b"\\\r\n", b"\\\n").translate(LINE_ENDS)
            self._rest = b""
            if not block:
                return
            cut = block.rfind(b"\n")
            while cut > 0 and block[cut - 1] == ord("\\"):  # a continued line stays whole
                cut = block.rfind(b"\n", 0, cut)
            if more:
                if cut <= 0 and len(block) > BLOCK_BYTES - 8:
                    raise ScanError(
                        f"{self.path.name}: expected lines of text, got one over {BLOCK_BYTES:,} bytes long; "
                        "the file is damaged or of another format"
                    )
                block, self._rest = block[: cut + 1], block[cut + 1 :]
            yield block if self.convert is None else self.convert(block)


def token_lines(block: bytes) -> tuple[UInt8[np.ndarray, " n"], Int[np.ndarray, " t"], Int[np.ndarray, " rows"]]:
    """Find a block's tokens: its bytes, the start of each token, and the number of tokens per line (0 if empty)."""
    data = np.frombuffer(block, np.uint8)
    is_space = data <= 32
    starts = np.flatnonzero(~is_space & np.concatenate([[True], is_space[:-1]]))
    ends = np.flatnonzero(data == ord("\n"))
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    return data, starts, np.diff(np.searchsorted(starts, ends), prepend=0)


def parse_numbers(block: bytes, num_tokens: int, path: Path, *, dtype: type = np.float64) -> np.ndarray:
    """All numbers of a block, exactly one for each whitespace-separated token.

    Raises:
        ScanError: a token is not a number.
    """
    if num_tokens == 0:
        return np.empty(0, dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older NumPy warns where it stops at a bad token
            values: np.ndarray = np.fromstring(block, dtype=dtype, sep=" ")
    except (ValueError, DeprecationWarning, OverflowError):
        values = np.empty(0, dtype)
    if len(values) != num_tokens:
        raise ScanError(f"{path.name}: expected numbers, got {_first_bad_token(block)}; the file is damaged")
    return values


def _first_bad_token(block: bytes) -> str:
    for token in block[: 1 << 20].split():
        try:
            float(token)
        except ValueError:
            return repr(token[:40].decode("utf-8", "replace"))
    return "something else"


def number_rows(
    blocks: LineBlocks, *, num_rows: int | None = None, what: str = "rows"
) -> Iterator[tuple[Float[np.ndarray, " n"], Int[np.ndarray, " rows"]]]:
    """Numbers line by line, without empty lines: for each block the flat values, and the count on each line.

    Args:
        blocks: blocks to read from; the text after the rows stays in them.
        num_rows: number of rows to read; None reads to the end of the file.
        what: plural noun of the rows, for messages.

    Raises:
        ScanError: a token is not a number, or the file ends early.
    """
    missing = num_rows
    num_numbers = 0
    if missing == 0:
        return
    for block in blocks:
        _, starts, counts = token_lines(block)
        filled = np.flatnonzero(counts)
        if missing is not None and len(filled) > missing:
            token = int(counts[: filled[missing]].sum())
            end = int(starts[token])
            blocks.push_back(block[end:])
            block, starts, filled = block[:end], starts[:token], filled[:missing]
        num_numbers += len(starts)
        if num_numbers > MAX_NUMBERS:
            raise ScanError(
                f"{blocks.path.name}: expected at most {MAX_NUMBERS:,} numbers; crop or thin the scan first"
            )
        yield parse_numbers(block, len(starts), blocks.path), counts[filled]
        if missing is not None:
            missing -= len(filled)
            if missing == 0:
                return
    if missing:
        raise ScanError(
            f"{blocks.path.name}: expected {num_rows:,} {what}, the file ends {missing:,} short; "
            "it is truncated, copy or export it again"
        )


def table(
    blocks: LineBlocks, *, num_columns: int, num_rows: int, what: str = "rows"
) -> Float[np.ndarray, "num_rows num_columns"]:
    """Read rows with the same number of columns.

    Raises:
        ScanError: as for `number_rows`, or a row has another number of columns.
    """
    out = []
    for values, counts in number_rows(blocks, num_rows=num_rows, what=what):
        if (counts != num_columns).any():
            got = int(counts[counts != num_columns][0])
            raise ScanError(
                f"{blocks.path.name}: expected {num_columns} numbers on each line of {what}, got {got}; "
                "the file is damaged, export it again"
            )
        out.append(values.reshape(-1, num_columns))
    return np.concatenate(out) if out else np.empty((0, num_columns))

"""Ways to damage a scan that still leave it looking like one: each takes a folder and a generator, and gives a folder."""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from seeds import Folder, zip_bytes

Rng = np.random.Generator
_MAX_BYTES = 1_000_000  # of a damaged file: what is about size is in `hostile`
NUMBERS = [
    b"0", b"-1", b"1", b"2", b"255", b"65536", b"2147483647", b"-2147483648",
    b"4294967296", b"9223372036854775807", b"1e30", b"1e-300",
    b"1e308", b"1e999", b"-1e999", b"nan", b"inf", b"-0", b"0.5", b"1" * 401, b"1000000000000000000000000000000", b"1e", b"0x10",
    b"1_0", b"1,5", b"TRUE", b"", b"--1",
]  # fmt: skip
_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, -(10**30), 1e308, 0.0, "", "x", "../x", "/etc/passwd", "data:,",
    "a" * 5000, [], {}, [0] * 40, [[]], [None], {"index": 0}, {"a": {"a": {}}}, [1e300] * 16, "C:\\x\\tex.png", "TEX.PNG", "\0",
]  # fmt: skip


def _pick(folder: Folder, rng: Rng) -> str:
    """A file to damage, mostly the first."""
    names = list(folder)
    return names[0] if len(names) == 1 or rng.random() < 0.6 else names[rng.integers(1, len(names))]


def _changed(folder: Folder, rng: Rng, change: Callable[[bytearray], bytes]) -> Folder:
    name = _pick(folder, rng)
    return {**folder, name: change(bytearray(folder[name][:_MAX_BYTES]))}


def bytes_set(folder: Folder, rng: Rng) -> Folder:
    def change(data: bytearray) -> bytes:
        head = rng.random() < 0.5  # headers are short and matter most
        for _ in range(int(rng.choice([1, 1, 2, 8]))):
            if data:
                data[rng.integers(0, min(len(data), 400) if head else len(data))] = rng.integers(0, 256)
        return bytes(data)

    return _changed(folder, rng, change)


def bytes_moved(folder: Folder, rng: Rng) -> Folder:
    """Cut, repeat or insert a run of bytes."""

    def change(data: bytearray) -> bytes:
        a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        b = min(b, a + int(rng.choice([1, 4, 64, 4096])))
        kind = rng.integers(0, 4)
        if kind == 0:
            return bytes(data[:a] + data[b:])
        if kind == 1:
            return bytes(data[:b] + data[a:b] * int(rng.integers(1, 20)) + data[b:])
        if kind == 2:
            return bytes(data[:a])
        return bytes(data[:a]) + rng.bytes(int(rng.integers(1, 64))) + bytes(data[a:])

    return _changed(folder, rng, change)


def words_set(folder: Folder, rng: Rng) -> Folder:
    """Replace a binary integer or float by one at the edge of its range."""

    def change(data: bytearray) -> bytes:
        form = str(rng.choice(["<I", "<H", "<Q", "<f", ">I", "<i"]))
        size = struct.calcsize(form)
        values: list[float] = [0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 1000, 65535][
            : 6 if form in ("<I", "<Q", ">I") else 2
        ]
        if form == "<f":
            values = [np.nan, np.inf, 1e38, -0.0]
        if len(data) >= size:
            place = int(rng.integers(0, min(len(data), 2000) - size + 1))
            data[place : place + size] = struct.pack(form, values[rng.integers(0, len(values))])
        return bytes(data)

    return _changed(folder, rng, change)


def numbers_set(folder: Folder, rng: Rng) -> Folder:
    """Replace numbers in text."""

    def change(data: bytearray) -> bytes:
        found = list(_NUMBER.finditer(bytes(data[: 1 << 16])))
        for match in sorted(
            (
                found[k]
                for k in {int(i) for i in rng.integers(0, max(len(found), 1), int(rng.choice([1, 1, 3])))}
                if found
            ),
            key=lambda m: -m.start(),
        ):
            data[match.start() : match.end()] = NUMBERS[rng.integers(0, len(NUMBERS))]
        return bytes(data)

    return _changed(folder, rng, change)


def lines_moved(folder: Folder, rng: Rng) -> Folder:
    def change(data: bytearray) -> bytes:
        lines = bytes(data).split(b"\n")
        for _ in range(rng.integers(1, 4)):
            a, b = rng.integers(0, len(lines), 2).tolist()
            kind = rng.integers(0, 5)
            if kind == 0:
                lines[a], lines[b] = lines[b], lines[a]
            elif kind == 1:
                lines[a:a] = [lines[b][:10_000]] * int(rng.integers(1, 200))
            elif kind == 2 and len(lines) > 1:
                del lines[a : a + int(rng.integers(1, 20))]
                lines = lines or [b""]
            elif kind == 3:
                lines[a] = lines[a][:10_000] * int(rng.integers(1, 300))
            else:
                lines[a] = lines[a] + bytes(rng.choice(list(b" \t,;|\"'#\\/\r\0\xff"), 3).tolist())
            a = min(a, len(lines) - 1)
        return b"\n".join(lines)

    return _changed(folder, rng, change)


def json_set(folder: Folder, rng: Rng) -> Folder:
    """Replace, remove, rename or repeat values in the JSON of a glTF, a GLB, a frame, a side file or the head of safetensors."""
    name = _pick(folder, rng)
    data = folder[name]
    glb, tensors = data[:4] == b"glTF", name.endswith(".safetensors")
    size = int.from_bytes(data[:8] if tensors else data[12:16], "little")
    try:
        root = json.loads(data[20 : 20 + size] if glb else data[8 : 8 + size] if tensors else data)
    except (ValueError, RecursionError):
        return bytes_set(folder, rng)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        _change_value(root, rng)
    text = json.dumps(root).encode()
    if glb:
        text = text.ljust(-(-len(text) // 4) * 4)
        rest = data[20 + size :]
        text = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    if tensors:
        text = struct.pack("<Q", len(text)) + text + data[8 + size :]
    return {**folder, name: text}


def _change_value(parent: Any, rng: Rng) -> None:
    while isinstance(parent, dict | list) and parent:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = keys[rng.integers(0, len(keys))]
        if isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.85:
            parent = parent[key]
            continue
        kind = rng.integers(0, 6)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[key]) for _ in range(int(rng.integers(1, 30))))
        elif kind == 2 and isinstance(parent, dict):
            parent[
                str(
                    rng.choice(
                        ["extensions", "sparse", "normalized", "byteStride", "uri", "mode", "K", "depth", "unit_depth"]
                    )
                )
            ] = copy.deepcopy(parent[key])
        elif kind == 3 and isinstance(parent[key], int):
            parent[key] += int(rng.integers(-3, 4))
        else:
            parent[key] = copy.deepcopy(_VALUES[rng.integers(0, len(_VALUES))])
        return


def zip_set(folder: Folder, rng: Rng) -> Folder:
    """Damage the content of a zip archive and pack it again, so that its checksums are correct."""
    name = next(iter(folder))
    try:
        with zipfile.ZipFile(io.BytesIO(folder[name])) as archive:
            held = {info.filename: archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, ValueError, EOFError):
        return bytes_set(folder, rng)
    if not held:
        return bytes_moved(folder, rng)
    shuffled = {str(key): held[key] for key in rng.permutation(list(held))}  # each is as likely the first
    damaged = MUTATORS[rng.integers(0, len(MUTATORS) - 1)](shuffled, rng)
    inner = {key: damaged[key] for key in (*held, *(damaged.keys() - held.keys())) if key in damaged}
    if rng.random() < 0.2:
        key = list(inner)[rng.integers(0, len(inner))]
        renamed = str(
            rng.choice(
                ["../x.obj", "/x.obj", "a\\b.ply", "points.npy", "CON", "x" * 300, "__MACOSX/._m.obj", "metadata"]
            )
        )
        inner = {renamed if k == key else k: v for k, v in inner.items()}
    return {
        **folder,
        name: zip_bytes(
            inner, int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2], p=[0.45, 0.45, 0.1]))
        ),
    }


def npy_set(folder: Folder, rng: Rng) -> Folder:
    """Change the header of an NPY file, here or in an NPZ, and keep its length right."""
    name = next((n for n in folder if folder[n][:6] == b"\x93NUMPY"), None)
    if name is None:
        return zip_set(folder, rng) if next(iter(folder.values()))[:2] == b"PK" else numbers_set(folder, rng)
    data = folder[name]
    size = int.from_bytes(data[8:10], "little")
    header = bytearray(data[10 : 10 + size].rstrip())
    token = rng.choice(
        [
            b"(784, True)",
            b"(",
            b"{{{",
            b"'<f4'",
            b"'|O'",
            b"'<U9'",
            b"(-1, 3)",
            b"(10**9,)",
            b"9" * 300,
            b"#",
            b"True",
            b"\n",
            b"(2, 2L)",
        ]
    )
    a = int(rng.integers(0, len(header) + 1))
    header[a : a + int(rng.integers(0, 12))] = bytes(token)
    text = bytes(header) + b"\n"
    return {**folder, name: data[:8] + struct.pack("<H", len(text)) + text + data[10 + size :]}


def spliced(folder: Folder, rng: Rng) -> Folder:
    """Put a piece of one file of the folder into another."""
    names = list(folder)
    source = folder[names[rng.integers(0, len(names))]]
    a = int(rng.integers(0, len(source) + 1))
    piece = source[a : a + int(rng.integers(1, 3000))]

    def change(data: bytearray) -> bytes:
        b = int(rng.integers(0, len(data) + 1))
        return bytes(data[:b] + piece + data[b + (len(piece) if rng.random() < 0.5 else 0) :])

    return _changed(folder, rng, change)


def replaced(folder: Folder, rng: Rng) -> Folder:
    """Put next to nothing, or nothing but brackets, in a file's place."""
    contents = [b"", b"\0", b"{}", b"[]", b"null", b"[" * 20_000, b"{" * 20_000, rng.bytes(64)]
    return {**folder, _pick(folder, rng): contents[rng.integers(0, len(contents))]}


# The last opens archives, which the others may damage within it.
MUTATORS: list[Callable[[Folder, Rng], Folder]] = [
    bytes_set, bytes_moved, words_set, numbers_set, lines_moved, json_set, npy_set, spliced, replaced, zip_set,
]  # fmt: skip


def mutated(folder: Folder, rng: Rng) -> Folder:
    """One to three damages, one after the other; mostly one, so that much is still read."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        zipped = next(iter(folder.values()))[:2] == b"PK" and rng.random() < 0.7
        folder = zip_set(folder, rng) if zipped else MUTATORS[rng.integers(0, len(MUTATORS))](folder, rng)
    return folder

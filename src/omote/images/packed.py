"""Folders of ordinary images, packed into one memory-mapped file.

Images may be in subfolders, one for each class, and have captions: ``name.txt`` beside ``name.jpg``, or ``metadata.jsonl``
with ``file_name`` and ``text``, as in the Hugging Face image folder. Packing opens every file, so that a broken one is
reported before training, and resizes it once to the side used in training; crops are made when batches are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8

from omote.errors import DatasetError, OutputError
from omote.files import atomic_folder, reading

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
INDEX, PIXELS, CAPTIONS = "index.json", "pixels.bin", "metadata.jsonl"
# Images of a larger aspect ratio are cut at both ends, of which a crop would rarely show anything.
MOST_ASPECT = 4.0
MOST_PIXELS = 200_000_000


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """The contents of a folder of images.

    Attributes:
        names: paths of the images within the folder, sorted.
        classes: names of the subfolders; empty if the images are in the folder itself.
        labels: index into ``classes`` of each image; 0 without classes.
        captions: caption of each image; empty without captions.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PackedImages:
    """Images with a shorter side of s pixels.

    Attributes:
        size: shorter side s in pixels.
        pixels: bytes of all images one after another, in [0, 255].
        starts: index of each image's first byte.
        shapes: height and width of each image in pixels.
        labels: index into ``classes`` of each image.
        classes: names of the classes.
        captions: caption of each image.
    """

    size: int
    pixels: UInt8[np.ndarray, "n"]
    starts: Int[np.ndarray, "m"]
    shapes: Int[np.ndarray, "m 2"]
    labels: Int[np.ndarray, "m"]
    classes: tuple[str, ...]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.starts)

    def crop(
        self, index: int, rng: np.random.Generator | None = None, *, random_crop: bool = False, flip: bool = False
    ) -> UInt8[np.ndarray, "s s 3"]:
        """A square crop of an image: its centre, or a random one.

        Args:
            index: index of the image.
            rng: random generator of crop and flip; None for the centre crop without a flip.
            random_crop: whether to crop at random along the longer side.
            flip: whether to mirror the crop with probability .5.
        """
        height, width = (int(x) for x in self.shapes[index])
        start = int(self.starts[index])
        image = self.pixels[start : start + height * width * 3].reshape(height, width, 3)
        free = np.array([height - self.size, width - self.size])
        top, left = free // 2 if rng is None or not random_crop else rng.integers(0, free + 1)
        square = image[top : top + self.size, left : left + self.size]
        return square[:, ::-1] if rng is not None and flip and rng.random() < 0.5 else square


def image_names(folder: Path) -> list[str]:
    """Paths, within a folder, of the images in it and its subfolders, sorted.

    Raises:
        DatasetError: the folder does not exist, or holds no image.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of images (jpg, png, webp), got none")
    # Hidden files are not images: macOS writes "._00.png" beside every 00.png on file systems other than its own.
    paths = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and p.is_file() and not _is_hidden(p.relative_to(folder))
    )
    if not paths:
        raise DatasetError(f"{folder}: expected images (jpg, png, webp) or subfolders of them, found none")
    return [p.relative_to(folder).as_posix() for p in paths]


def list_images(folder: Path) -> ImageList:
    """List a folder of images without opening them.

    Raises:
        DatasetError: there is no image, images are both in the folder and in subfolders, or captions cannot be read.
    """
    names = image_names(folder)
    parents = [name.partition("/")[0] if "/" in name else "" for name in names]
    classes = sorted(set(parents))
    if "" in classes and len(classes) > 1:
        raise DatasetError(
            f"{folder}: expected images in subfolders, one a class, or none of them; {names[parents.index('')]} lies beside "
            f"{classes[1]}/: move it into its class"
        )
    known = [] if classes == [""] else classes
    return ImageList(
        names=tuple(names),
        classes=tuple(known),
        labels=tuple(known.index(p) for p in parents) if known else (0,) * len(names),
        captions=_captions(folder, names),
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _captions(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    table = folder / CAPTIONS
    if not table.is_file():
        texts = ((folder / name).with_suffix(".txt") for name in names)
        return tuple(t.read_text(encoding="utf-8", errors="replace").strip() if t.is_file() else "" for t in texts)
    found: dict[str, str] = {}
    for number, line in enumerate(table.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        with reading(f"{table} line {number}", DatasetError, "no caption", 'write {"file_name": ..., "text": ...}'):
            row = json.loads(line)
            found[str(row["file_name"])] = str(row["text"])
    return tuple(found.get(name, "") for name in names)


def pack_images(folder: Path, out: Path, *, size: int) -> Iterator[int]:
    """Pack a folder of images into ``out``, completely or not at all; yields the number of packed images.

    Args:
        folder: folder of the images.
        out: new folder, or one that already holds the same images at this size.
        size: shorter side of the packed images in pixels.

    Raises:
        DatasetError: an image cannot be read; the message names it, and nothing is written.
        OutputError: ``out`` holds other files, or cannot be written.
    """
    listed = list_images(folder)
    if out.exists():
        held = read_index(out) if (out / INDEX).is_file() else {}
        if held.get("names") == list(listed.names) and held.get("size") == size:
            yield len(listed.names)
            return
        raise OutputError(f"{out}: holds something else; delete it or give another --out")
    with atomic_folder(out) as temporary:
        shapes = []
        with (temporary / PIXELS).open("wb") as file:
            for done, name in enumerate(listed.names, start=1):
                image = read_image(folder / name, size)
                file.write(image.tobytes())
                shapes.append(image.shape[:2])
                yield done
        index = {"size": size, **vars(listed), "shapes": shapes}
        (temporary / INDEX).write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def read_image(path: Path, size: int) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image upright, resized (bicubic) to a shorter side of ``size`` pixels.

    Raises:
        DatasetError: the image cannot be read.
    """
    from PIL import Image

    image = open_image(path)
    longest = round(min(image.size) * MOST_ASPECT)
    if max(image.size) > longest:
        width, height = min(image.width, longest), min(image.height, longest)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    scale = size / min(image.size)
    sides = [max(size, round(side * scale)) for side in image.size]
    return np.asarray(image.resize((sides[0], sides[1]), Image.Resampling.BICUBIC))


def open_image(path: Path) -> Image.Image:
    """Open an image as RGB, upright.

    Raises:
        DatasetError: the image cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} pixels are too many")
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith(("I", "F")):  # Pillow would clip values beyond 8 bits
                from omote.formats.images import grey_bytes

                upright = Image.fromarray(grey_bytes(np.asarray(upright)))
            return upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no image format" if isinstance(error, UnidentifiedImageError) else str(error).splitlines()[0]
        raise DatasetError(f"{path}: not a whole image ({reason}); replace or remove it") from None


def read_index(folder: Path) -> dict[str, Any]:
    """The index of packed images.

    Raises:
        DatasetError: the index is missing or damaged.
    """
    if not (folder / INDEX).is_file():
        raise DatasetError(f"{folder}: expected packed images; make them with `omote data pack IMAGES --out {folder}`")
    with reading(folder / INDEX, DatasetError, "damaged", f"delete {folder} and pack it again"):
        return dict(json.loads((folder / INDEX).read_text(encoding="utf-8")))


def read_packed(folder: Path) -> PackedImages:
    """Map packed images into memory.

    Raises:
        DatasetError: the folder holds no packed images, or their file is truncated.
    """
    index = read_index(folder)
    with reading(folder, DatasetError, "not whole", "delete it and pack the images again"):
        shapes = np.array(index["shapes"], np.int64).reshape(-1, 2)
        labels, captions = np.array(index["labels"], np.int64), [str(text) for text in index["captions"]]
        classes = [str(name) for name in index["classes"]]
        if not (len(shapes) == len(labels) == len(captions) and shapes.min() >= int(index["size"]) > 0):
            raise ValueError("its lists differ in length, or a shape is too small")
        if labels.min() < 0 or labels.max() >= max(len(classes), 1):
            raise ValueError("a label without a class")
        ends = np.cumsum(shapes.prod(axis=1) * 3)
        found = (folder / PIXELS).stat().st_size
        if found != ends[-1]:
            raise ValueError(f"{PIXELS} has {found:,} bytes, expected {ends[-1]:,}")
        return PackedImages(
            size=int(index["size"]),
            pixels=np.memmap(folder / PIXELS, np.uint8, mode="r"),
            starts=np.concatenate([[0], ends[:-1]]),
            shapes=shapes,
            labels=labels,
            classes=tuple(classes),
            captions=tuple(captions),
        )

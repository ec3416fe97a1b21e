"""Images beside a scan, with their size checked from the header before anything is decoded."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.limits import sibling

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64 << 20  # 8192²
MAX_TEXTURE_SIZE = 4096  # pixels a side kept; more only costs memory at the sizes that avatars are baked at
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "TGA")


def open_image(source: Path | bytes, name: str) -> Image:
    """Open an image, header only, and refuse one too large to decode.

    Args:
        source: a file, or an image file's bytes.
        name: for messages.

    Raises:
        ScanError: not an image, over 64 megapixels, or not readable.
    """
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, larger, limits
            image = pil.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
        width, height = image.size
    except UnidentifiedImageError:
        raise ScanError(f"{name}: expected a PNG, JPEG, TIFF, BMP, WebP or TGA image, got something else") from None
    except pil.DecompressionBombError:
        raise ScanError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got many more; make it smaller") from None
    except OSError as error:
        raise ScanError(f"{name}: cannot be read ({error.strerror or error}); check the file") from None
    except Exception as error:  # Pillow's parsers raise many kinds on damaged headers
        raise ScanError(f"{name}: the image is damaged ({type(error).__name__}); save it again") from None
    if width * height > MAX_PIXELS:
        raise ScanError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got {width} × {height}; make it smaller")
    return image


def decode(image: Image, name: str, *, mode: str | None = None) -> np.ndarray:
    """Decode the pixels, converted to a Pillow mode where one is given.

    Raises:
        ScanError: the image is truncated or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return np.asarray(image.convert(mode) if mode is not None else image)
    except Exception as error:  # as in `open_image`
        raise ScanError(f"{name}: the image is truncated or damaged ({error}); copy or save it again") from None


def read_rgb(source: Path | bytes, name: str, *, max_size: int = MAX_PIXELS) -> Float[np.ndarray, "height width 3"]:
    """Decode to colours in [0, 1], no side longer than ``max_size`` pixels; 16-bit grey keeps its brightness.

    Raises:
        ScanError: as `open_image` and `decode`.
    """
    image = open_image(source, name)
    if max(image.size) > max_size:
        image.draft("RGB", (max_size, max_size))  # JPEG decodes straight to a smaller size
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = np.asarray(decode(image, name), np.float32) / 65535.0
        return np.repeat(np.clip(np.nan_to_num(grey), 0.0, 1.0)[:, :, None], 3, axis=2)
    try:
        image.load()
        image = image.convert("RGB")
        if max(image.size) > max_size:
            image.thumbnail((max_size, max_size))
    except Exception as error:  # as in `open_image`
        raise ScanError(f"{name}: the image is truncated or damaged ({error}); copy or save it again") from None
    return np.asarray(image, np.float32) / np.float32(255.0)


def read_texture_beside(
    path: Path, name: str
) -> tuple[Float[np.ndarray, "tex_height tex_width 3"] | None, tuple[str, ...]]:
    """Read a texture that a scan names; None and a note where the file is absent.

    A scan without its texture still aligns by shape, and every viewer opens it, so an absent texture is reported
    rather than refused; one that is there and damaged is an error.

    Raises:
        ScanError: the name leads outside the scan's folder, or the image cannot be read.
    """
    found = sibling(path, name)
    if found is None:
        return None, (f"texture {name[:80]!r} is not beside {path.name}: read without it",)
    return read_rgb(found, found.name, max_size=MAX_TEXTURE_SIZE), ()

"""Images of a scan; their size is checked from the header before anything is decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from omote.errors import ScanError
from omote.formats.source import read_bounded

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64 << 20  # 8192²
MAX_TEXTURE_SIZE = 4096  # pixels per side; avatars are baked no larger, so more only costs memory
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "TGA", "PPM")
_ORIENTATION = 0x0112  # EXIF
# A progressive JPEG is decoded once per scan, and a scan may take only a few bytes; encoders write about ten scans.
_MAX_JPEG_SCANS = 64
MAX_IMAGE_BYTES = 512 << 20
_MAX_RLE_BYTES = 4 << 20  # Pillow decodes run-length encoded BMP in Python


def open_image(source: Path | bytes, name: str) -> Image:
    """Open an image by its header alone, and refuse one that is too large to decode.

    Args:
        source: path of an image file, or its bytes.
        name: name of the image in messages.

    Raises:
        ScanError: the source is no image, has more than 64 megapixels, or cannot be read.
    """
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own, larger, limits
            data = source if isinstance(source, bytes) else read_bounded(source, MAX_IMAGE_BYTES)
            image = pil.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
    except ScanError:
        raise
    except UnidentifiedImageError:
        raise ScanError(
            f"{name}: expected a PNG, JPEG, TIFF, BMP, WebP, TGA or PNM image, got something else"
        ) from None
    except pil.DecompressionBombError:
        raise ScanError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got many more; make it smaller") from None
    except OSError as error:
        raise ScanError(f"{name}: cannot be read ({error.strerror or error}); check the file") from None
    except Exception as error:  # Pillow's parsers raise many kinds on damaged headers
        raise ScanError(f"{name}: the image is damaged ({type(error).__name__}); save it again") from None
    if width * height > MAX_PIXELS:
        raise ScanError(f"{name}: expected at most {MAX_PIXELS:,} pixels, got {width} × {height}; make it smaller")
    _check_cost(data, image, name)
    return image


def _check_cost(data: bytes, image: Image, name: str) -> None:
    """Refuse an image that decodes slowly, or in more memory than its size suggests."""
    if any(tile[0] == "bmp_rle" for tile in getattr(image, "tile", ())) and len(data) > _MAX_RLE_BYTES:
        raise ScanError(f"{name}: expected a BMP with run lengths of at most {_MAX_RLE_BYTES:,} bytes; save it as PNG")
    scans = data.count(b"\xff\xda") if image.format == "JPEG" else 0
    if scans > _MAX_JPEG_SCANS:
        raise ScanError(f"{name}: expected a JPEG of at most {_MAX_JPEG_SCANS} scans, got {scans}; save it again")
    if image.info.get("progressive") and image.mode == "CMYK" and image.width * image.height > MAX_PIXELS // 2:
        raise ScanError(
            f"{name}: expected at most {MAX_PIXELS // 2:,} pixels in a progressive CMYK JPEG; save it as PNG"
        )


def decode(image: Image, name: str) -> np.ndarray:
    """Decode the pixels in their stored mode.

    Raises:
        ScanError: the image is truncated or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:  # as in `open_image`
        raise ScanError(
            f"{name}: the image is truncated or damaged ({_one_line(error)}); copy or save it again"
        ) from None


def orientation(image: Image) -> int:
    """EXIF orientation of an image: 1 upright, 2 to 8 turned or mirrored."""
    if image.format == "TIFF":  # Pillow already applies the orientation of TIFF
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF counts as none: the pixels are still usable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_pixels(
    source: Path | bytes,
    name: str,
    *,
    max_size: int = MAX_TEXTURE_SIZE,
    claim: Callable[[int], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    upright: bool | None = None,
    resize: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Decode to sRGB bytes, no side longer than ``max_size`` pixels; images of 16 or 32 bits keep their brightness.

    Args:
        source: path of an image file, or its bytes.
        name: name of the image in messages.
        max_size: largest width or height, pixels.
        claim: function called with the number of pixels before they are decoded.
        note: function that receives a sentence on anything suspicious.
        upright: whether to apply the EXIF orientation; if None, the pixels stay as stored, the order that texture coordinates
            assume, and a note says so.
        resize: width and height to which the upright image is area-averaged.

    Raises:
        ScanError: as for `open_image` and `decode`.
    """
    from PIL import Image as pil
    from PIL import ImageOps

    image = open_image(source, name)
    claim(image.width * image.height)
    turn = orientation(image)
    if max(image.size) > max_size:
        image.draft("RGB", (max_size, max_size))  # JPEG decodes straight to a smaller size
    if image.mode.startswith(("I", "F")):
        image = pil.fromarray(grey_bytes(decode(image, name), note))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            if image.mode != "RGB":
                image = image.convert("RGB")
            if max(image.size) > max_size:
                image.thumbnail((max_size, max_size))
            if upright and turn != 1:
                image.getexif()[_ORIENTATION] = turn
                image = ImageOps.exif_transpose(image)
            if resize is not None:
                image = image.resize(resize, pil.Resampling.BOX)
    except MemoryError:
        raise
    except Exception as error:  # as in `open_image`
        raise ScanError(
            f"{name}: the image is truncated or damaged ({_one_line(error)}); copy or save it again"
        ) from None
    if turn != 1 and upright is None:
        note(f"{name} has EXIF orientation {turn}, which is not applied: texture coordinates count stored pixels")
    return np.asarray(image)


def read_rgb(source: Path | bytes, name: str, *, max_size: int = MAX_PIXELS) -> Float[np.ndarray, "height width 3"]:
    """Decode to colours in [0, 1], no side longer than ``max_size`` pixels.

    Raises:
        ScanError: as for `open_image` and `decode`.
    """
    return unit(read_pixels(source, name, max_size=max_size))


def unit(pixels: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Bytes, 0 to 255 → [0, 1]."""
    out = pixels.astype(np.float32)
    out /= np.float32(255.0)
    return out


def grey_bytes(grey: np.ndarray, note: Callable[[str], None] = lambda _: None) -> UInt8[np.ndarray, "h w"]:
    """Grey values of 16 or 32 bits → bytes, by the scale that their range suggests."""
    if grey.dtype == np.uint16:
        scale = 65535.0
        if grey.size and 0 < grey.max() <= 255:
            note(f"a 16-bit image holds values up to {int(grey.max())} only: taken as 0 to 255")
            scale = 255.0
    else:
        grey = np.nan_to_num(grey.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        scale = next(s for s in (1.0, 255.0, 65535.0, np.inf) if s == np.inf or float(grey.max(initial=0.0)) <= s)
        scale = float(grey.max()) if scale == np.inf else scale
    out = np.empty(grey.shape, np.uint8)
    for row in range(0, len(grey), 256):  # in strips: a large image takes gigabytes as floats
        out[row : row + 256] = np.clip(grey[row : row + 256] * (255.0 / scale) + 0.5, 0, 255)
    return out


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__

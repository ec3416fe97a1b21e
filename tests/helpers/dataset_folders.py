"""Tiny folders in every dataset's layout; the meshes are bumpy grids that read, and align to nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from omote.datasets.layouts.labels import BU3DFE, FACESCAPE


def grid(seed: int, n: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices, triangles and texture coordinates; more than the 500 points that a scan needs."""
    i, j = np.mgrid[:n, :n]
    height = np.random.default_rng(seed).uniform(-0.2, 0.2, n * n)
    a = (i * n + j)[:-1, :-1].ravel()
    faces = np.concatenate([np.stack([a, a + n, a + n + 1], 1), np.stack([a, a + n + 1, a + 1], 1)])
    return np.stack([i.ravel(), j.ravel(), height], 1), faces, np.stack([i.ravel(), j.ravel()], 1) / (n - 1)


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, image: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"mtllib {path.stem}.mtl", "usemtl skin"] if image is not None else []
    lines += [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in vertices] + [f"vt {u:.6g} {v:.6g}" for u, v in uv]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in faces]
    path.write_text("\n".join(lines) + "\n")
    if image is not None:
        path.with_suffix(".mtl").write_text(f"newmtl skin\nmap_Kd {image}\n")


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = (
        f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
    )
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [" ".join(f"{x:.6g}" for x in v) for v in vertices] + ["3 " + " ".join(map(str, f)) for f in faces]
    path.write_text(head + "\n".join(rows) + "\n")


def write_wrl(path: Path, vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)

    def array(name: str, rows: np.ndarray) -> str:
        return f"{name} [\n" + ",\n".join(" ".join(f"{x:.6g}" for x in row) for row in rows) + "\n]\n"

    index = np.column_stack([faces, np.full(len(faces), -1)])
    path.write_text(
        f'#VRML V2.0 utf8\nShape {{ appearance Appearance {{ texture ImageTexture {{ url "{path.stem}.bmp" }} }}\n'
        f"geometry IndexedFaceSet {{ coord Coordinate {{ {array('point', vertices)} }}\n{array('coordIndex', index)}"
        f"texCoord TextureCoordinate {{ {array('point', uv)} }}\n{array('texCoordIndex', index)} }} }}\n"
    )


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), [200, 150, 120], np.uint8)).save(path)


def facescape(folder: Path) -> None:
    for subject in ("1", "212"):
        models = folder / subject / "models_reg"
        for number, label in enumerate(FACESCAPE, start=1):
            write_obj(models / f"{number}_{label}.obj", *grid(number), image=f"{number}_{label}.jpg")
            write_image(models / f"{number}_{label}.jpg")
        write_image(folder / subject / "dpmap/1_neutral.png")


def bu3dfe(folder: Path) -> None:
    for subject in ("F0001", "M0002"):
        names = ["NE00", *(f"{label}{level:02d}" for label in BU3DFE if label != "NE" for level in (1, 4))]
        for k, name in enumerate(names):
            stem = folder / subject / f"{subject}_{name}WH"
            write_wrl(stem.with_name(stem.name + "_F3D.wrl"), *grid(k))
            write_image(stem.with_name(stem.name + "_F3D.bmp"))
        write_wrl(folder / subject / f"{subject}_NE00WH_RAW.wrl", *grid(99))


def coma(folder: Path) -> None:
    for subject in ("FaceTalk_170725_00137_TA", "FaceTalk_170728_03272_TA"):
        for label in ("bareteeth", "high_smile", "mouth_side"):
            for frame in range(5):
                write_ply(folder / subject / label / f"{label}.{frame:06d}.ply", *grid(frame)[:2])


def florence4d(folder: Path) -> None:
    for subject in ("s01", "s02"):
        for label in ("anger", "flirting", "joy_2", "anger_to_joy"):
            for frame in range(3):
                write_ply(folder / subject / label / f"{frame:03d}.ply", *grid(frame)[:2])


def headspace(folder: Path) -> None:
    for subject in ("00001", "00002"):
        write_obj(folder / subject / "scan/13.obj", *grid(1))
        write_image(folder / subject / "scan/13.bmp")
        (folder / subject / "subject.txt").write_text("gender: F\n")


def generic(folder: Path) -> None:
    rows = ["path,subject,expression,intensity"]
    for subject in ("anna", "面"):
        for k, (expression, intensity) in enumerate((("neutral", ""), ("Smile", "0.5"), ("jawOpen", "1"), ("odd", ""))):
            write_ply(folder / subject / f"{k}.ply", *grid(k)[:2])
            rows.append(f"{subject}/{k}.ply,{subject},{expression},{intensity}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


FOLDERS: dict[str, Callable[[Path], None]] = {
    f.__name__: f for f in (facescape, bu3dfe, coma, florence4d, headspace, generic)
}

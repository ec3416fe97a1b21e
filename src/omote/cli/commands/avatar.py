"""``omote avatar``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Make an avatar.

    SCAN is a PLY, OBJ, GLB/glTF, STL, OFF, PCD, XYZ or NPZ file, or the folder or JSON file of an RGB-D frame.
    """

    scan: flags.Scan
    """the face: any unit, any orientation, with or without colour"""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.glb")]
    """the avatar; its folder must exist"""
    expressions: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("all",)
    """some of: neutral happy sad angry surprised fearful disgusted"""
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WORDS ...")] = ()
    """expressions in English or Japanese words, each in quotes ("slightly disgusted" "笑っている顔")"""
    intensity: float = 1.0
    """how strong the expressions are, 0 to 1"""
    seed: int = 0
    """of the diffusion's noise: another seed, another way of smiling"""
    steps: flags.Steps = None
    """diffusion steps; more are slower"""
    guidance_scale: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """above 1 exaggerates the expression; 1 means no guidance"""
    unit: flags.Unit = "auto"
    """of the scan's coordinates, if you know it"""
    landmarks: flags.File = None
    """68 points (JSON, NPY or text) where the face is not found by itself"""
    backend: flags.Backend = "auto"
    """what runs the networks"""
    head: flags.File = None
    """an ICT-FaceKit checkout or .npz as output head instead of the shipped one"""
    report: flags.JsonFile = None
    """every estimate, time, memory, version and seed"""
    sheet: flags.PngFile = None
    """a picture of the source and of every expression"""
    meshes: flags.Folder = None
    """also a PLY and an OBJ of every expression, into this folder"""


def run(options: Options) -> None:
    """Make the avatar and say what was made."""
    from omote import api
    from omote.cli.display import Display

    outputs = api.AvatarOutputs(
        glb=options.out, report=options.report, sheet=options.sheet, meshes=options.meshes
    ).checked(options.scan)
    with Display() as display:
        result = api.avatar(
            options.scan,
            expressions=options.expressions,
            texts=options.text,
            intensity=options.intensity,
            seed=options.seed,
            steps=options.steps,
            guidance_scale=options.guidance_scale,
            unit=options.unit,
            landmarks=options.landmarks,
            backend=options.backend,
            head=options.head,
            own_process=True,
            on_step=display,
        )
        result.save_all(outputs, on_step=display)
    print(f"{options.out}: {result.summary()}")

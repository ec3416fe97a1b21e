"""Options that several commands share, with one wording."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Annotated, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

Scan = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCAN")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
JsonFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE.json", help_behavior_hint="")]
PngFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE.png", help_behavior_hint="")]

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _optional_path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path | None] | None:
    """An optional path is an option that may be left out: no word stands for None."""
    if get_origin(info.type) is not UnionType or set(get_args(info.type)) != {Path, type(None)}:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]),
        is_instance=lambda value: value is None or isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )

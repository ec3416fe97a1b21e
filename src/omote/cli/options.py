"""The options of each command, as tyro reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _optional_path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path | None] | None:
    """An optional path is an option that may be left out; no word stands for None."""
    if get_origin(info.type) is not UnionType or set(get_args(info.type)) != {Path, type(None)}:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]),
        is_instance=lambda value: value is None or isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def options_of(command: str, arguments: Sequence[str]) -> Any:
    """The dataclass of a command, or the union of those of its subcommands; only the command's own module is imported.

    Raises:
        ConfigError: an unknown suite or study.
    """
    if command in ("evaluate", "study"):
        from omote.cli.studies import subcommands
        from omote.studies.registry import STUDIES, SUITES

        return subcommands(command, SUITES if command == "evaluate" else STUDIES, arguments)
    if command in ("avatar", "batch", "demo", "fit", "fuse", "render", "reconstruct", "sample"):
        from omote.cli import scans

        several = any(argument.partition("=")[0].replace("_", "-") == "--out-dir" for argument in arguments)
        return {
            "avatar": scans.AvatarsCommand if several else scans.AvatarCommand, "batch": scans.BatchCommand,
            "demo": scans.DemoCommand, "fit": scans.FitCommand, "fuse": scans.FuseCommand,
            "render": scans.RenderCommand, "reconstruct": scans.ReconstructCommand, "sample": scans.SampleCommand,
        }[command]  # fmt: skip
    if command in ("studio", "view"):
        from omote.cli import studio

        return {"studio": studio.StudioCommand, "view": studio.ViewCommand}[command]
    if command == "completion":
        from omote.cli.completion import CompletionCommand

        return CompletionCommand
    from omote.cli import training

    return {
        "population": training.PopulationCommand, "data": training.DataCommand, "encode": training.EncodeCommand,
        "train": training.TrainCommand, "report": training.ReportCommand, "generate": training.GenerateCommand,
        "tool": training.ToolCommand, "info": training.InfoCommand,
    }[command]  # fmt: skip

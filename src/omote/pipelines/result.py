"""The result of a pipeline, and its files, which are written all together or, after an error, not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from omote.asset.file_settings import Compression, VrmMeta
from omote.files import all_or_nothing, check_distinct, check_file, check_folder, make_folder
from omote.head.model import HeadModel
from omote.progress import Step, Steps, finish
from omote.runs import Stopwatch, Value, doubts, write_json
from omote.types import Avatar, Expression, Mesh, Rgbd

if TYPE_CHECKING:  # their modules compile the renderer
    from omote.asset.materials import Materials
    from omote.rendering.appearance import Appearance


@dataclass(frozen=True, kw_only=True)
class AvatarOutputs:
    """Paths of the output files.

    Attributes:
        glb: path of the avatar, in an existing folder.
        report: path of the report of every estimate, time, memory, version and seed.
        sheet: path of a picture of the source and every expression.
        meshes: folder of a PLY and an OBJ per expression, made if missing.
        vrm: path of the avatar as VRM 1.0, on a skeleton, for applications of such avatars.
        compress: quantized halves the GLB, meshopt makes it a third or less (extra: formats); the viewer must know
            KHR_mesh_quantization or EXT_meshopt_compression. Positions keep to 5 µm.
        keep_neutral: keep morph targets that move nothing, such as neutral.
        meta: name and licence of the VRM.
    """

    glb: Annotated[Path, arg(name="out", metavar="FILE.glb")]
    report: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    sheet: Annotated[Path | None, arg(metavar="FILE.png", help_behavior_hint="")] = None
    meshes: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    vrm: Annotated[Path | None, arg(metavar="FILE.vrm", help_behavior_hint="")] = None
    compress: Compression = "none"
    keep_neutral: bool = False
    meta: OmitArgPrefixes[VrmMeta] = VrmMeta()

    def checked(self, scan: Path | None = None) -> AvatarOutputs:
        """Return itself if all outputs can be written.

        Raises:
            OutputError: a wrong suffix, a missing or read-only folder, or two outputs of the same name.
            ConfigError: a compression whose library is not installed.
        """
        check_file(self.glb, (".glb",))
        check_file(self.report, (".json",))
        check_file(self.sheet, (".png",))
        check_file(self.vrm, (".vrm",))
        check_distinct(scan, self.glb, self.report, self.sheet, self.vrm)
        if self.compress != "none":
            from omote.asset.glb import check_compression

            check_compression(self.compress)
        if self.meshes is not None:
            check_folder(self.meshes)
        return self


@dataclass(frozen=True, kw_only=True)
class AvatarResult:
    """An avatar and how it was made.

    Attributes:
        avatar: head at rest, morph targets and texture.
        head: head model of the avatar's meshes.
        appearance: skin tone and iris colour estimated from the scan.
        source: RGB-D image that was edited.
        generated: edited images by expression name.
        expressions: requested expressions.
        facts: flat report of settings, estimates, times, memory and versions.
    """

    avatar: Avatar
    head: HeadModel
    appearance: Appearance
    source: Rgbd
    generated: Mapping[str, Rgbd]
    expressions: tuple[Expression, ...]
    facts: Mapping[str, Value]

    def save(self, path: Path | str) -> None:
        """Write the avatar as GLB.

        Raises:
            OutputError: ``path`` does not end in .glb or cannot be written; then nothing is written.
        """
        self.save_all(AvatarOutputs(glb=Path(path)).checked())

    def save_all(self, outputs: AvatarOutputs, *, on_step: Callable[[Step], None] | None = None) -> None:
        """Write the GLB and the other requested files.

        Raises:
            OutputError: one of the files cannot be written; then none is written.
        """
        finish(self.saving(outputs), on_step)

    def saving(self, outputs: AvatarOutputs) -> Steps[None]:
        """`save_all` as a generator of its steps."""
        from omote.asset.glb import write_glb

        watch = Stopwatch()
        meshes = self._mesh_paths(outputs.meshes)
        files = [path for path in (outputs.glb, outputs.vrm, outputs.sheet, outputs.report) if path is not None]
        with all_or_nothing(*files, *meshes) as temporary:
            yield Step(stage="write")
            with watch("write"):
                materials = self.materials
                sizes = {
                    "output/glb_bytes": write_glb(
                        self.avatar,
                        self.head,
                        temporary[outputs.glb],
                        materials=materials,
                        compression=outputs.compress,
                        keep_neutral=outputs.keep_neutral,
                    )
                }
                if outputs.vrm is not None:
                    from omote.asset.vrm import write_vrm

                    meta = replace(outputs.meta, name=outputs.meta.name or outputs.vrm.stem)
                    sizes["output/vrm_bytes"] = write_vrm(
                        self.avatar, self.head, temporary[outputs.vrm], materials=materials, meta=meta
                    )
                for path, name in meshes.items():
                    _write_mesh(self.mesh(name), temporary[path])
            if outputs.sheet is not None:
                yield Step(stage="sheet")
                with watch("sheet"):
                    self._write_sheet(temporary[outputs.glb], temporary[outputs.sheet])
            if outputs.report is not None:
                spent = {f"time_s/{stage}": round(t, 4) for stage, t in watch.stages_s.items()}
                total = float(self.facts["time_s/total"] or 0.0) + sum(watch.stages_s.values())
                facts = {**self.facts, **spent, "time_s/total": round(total, 4), **sizes}
                write_json(facts, temporary[outputs.report])

    def summary(self) -> str:
        """The result in one line."""
        parts = [f"{sum(bool(move.any()) for move in self.avatar.morphs_mm.values())} morph targets"]
        if isinstance(median := self.facts.get("fit/median_mm"), float):
            parts.append(f"fit {median:.2f} mm median")
        if str(self.facts.get("avatar/surroundings", "")).startswith("left out"):
            parts.append("without hair and collar, which only a mesh gives")
        return ", ".join([*parts, f"{self.facts['time_s/total']:.1f} s", *doubts(self.facts)])

    def mesh(self, name: str | None = None) -> Mesh:
        """The head (mm) at a morph target's full weight, or at rest, with a colour per vertex."""
        from omote.asset.export import avatar_mesh

        return avatar_mesh(self.avatar, self.head, name, materials=self.materials)

    @property
    def materials(self) -> Materials:
        """Materials of eyes, teeth, tongue and mouth."""
        from omote.asset.eyes import iris_angle
        from omote.asset.materials import materials_of

        return materials_of(self.appearance, iris_rad=iris_angle(self.head, self.avatar.neutral.vertices_mm))

    def _mesh_paths(self, folder: Path | None) -> dict[Path, str]:
        if folder is None:
            return {}
        make_folder(folder)
        # Texts may contain characters that file names cannot.
        stems = {
            e.name: e.category if e.text is None else f"text_{i}_{e.category}" for i, e in enumerate(self.expressions)
        }
        return {folder / f"{stem}{suffix}": name for name, stem in stems.items() for suffix in (".ply", ".obj")}

    def _write_sheet(self, glb: Path, path: Path) -> None:
        from omote.pipelines.sheet import write_sheet

        write_sheet(path, glb, source=self.source, generated=self.generated)


def _write_mesh(mesh: Mesh, path: Path) -> None:
    from omote.formats.write import save_obj, save_ply

    (save_ply if path.suffix == ".ply" else save_obj)(mesh, path)

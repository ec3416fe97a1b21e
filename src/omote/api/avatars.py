"""``omote.avatar`` and ``omote.demo``: a scan to an avatar, and everything that can be written about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from omote.api.outputs import AvatarOutputs
from omote.api.scans import Scan, Unit, load_head, read_landmarks
from omote.config import nearest
from omote.datasets.demo_frame import sensed_frame
from omote.errors import ConfigError
from omote.files import all_or_nothing, check_folder, make_folder
from omote.formats.frame_write import save_rgbd
from omote.head.model import HeadModel
from omote.progress import Step, finish
from omote.runs import Stopwatch, Value, doubts, prefixed, run_facts, write_json
from omote.types import Avatar, Expression, Mesh, Rgbd

if TYPE_CHECKING:  # its module compiles the renderer
    from omote.rendering.appearance import Appearance
    from omote.rgbd.backends.process import EditingProcess


@dataclass(frozen=True, kw_only=True)
class AvatarMade:
    """An avatar and how it came about.

    Attributes:
        avatar: the head at rest, its morph targets and its texture.
        appearance: skin tone and iris as estimated from the scan.
        head: the head model of its meshes.
        source: the scan as the networks saw it.
        generated: what they made of it, per expression.
        expressions: the expressions asked for.
        facts: the report so far, flat: settings, estimates, times, memory, versions.
    """

    avatar: Avatar
    appearance: Appearance
    head: HeadModel
    source: Rgbd
    generated: dict[str, Rgbd]
    expressions: tuple[Expression, ...]
    facts: dict[str, Value]

    def save(self, path: Path | str) -> None:
        """Write the avatar as GLB.

        Raises:
            OutputError: ``path`` does not end in .glb, or cannot be written; then nothing is.
        """
        self.save_all(AvatarOutputs(glb=Path(path)).checked())

    def save_all(self, outputs: AvatarOutputs, *, on_step: Callable[[Step], None] | None = None) -> None:
        """Write the GLB and what else is wanted: all of it, or after an error none.

        Raises:
            OutputError: one of the files cannot be written.
        """
        from omote.asset.glb import write_glb
        from omote.asset.materials import materials_of

        watch = Stopwatch()
        meshes = self._mesh_paths(outputs.meshes)
        files = [p for p in (outputs.glb, outputs.sheet, outputs.report) if p is not None]
        with all_or_nothing(*files, *meshes) as temporary:
            if on_step is not None:
                on_step(Step(stage="write"))
            with watch("write"):
                materials = materials_of(self.appearance)
                size = write_glb(self.avatar, self.head, temporary[outputs.glb], materials=materials)
                for path, name in meshes.items():
                    self._write_mesh(name, temporary[path], path)
            if outputs.sheet is not None:
                if on_step is not None:
                    on_step(Step(stage="sheet"))
                with watch("sheet"):
                    self._write_sheet(temporary[outputs.glb], temporary[outputs.sheet])
            if outputs.report is not None:
                spent = {f"time_s/{stage}": round(t, 4) for stage, t in watch.stages_s.items()}
                total = float(self.facts["time_s/total"] or 0.0) + sum(watch.stages_s.values())
                facts = {**self.facts, **spent, "time_s/total": round(total, 4), "output/glb_bytes": size}
                write_json(facts, temporary[outputs.report])

    def summary(self) -> str:
        """Say in one line what was made."""
        parts = [f"{len(self.avatar.morphs_mm)} morph targets"]
        if isinstance(median := self.facts.get("fit/median_mm"), float):
            parts.append(f"fit {median:.2f} mm median")
        return ", ".join([*parts, f"{self.facts['time_s/total']:.1f} s", *doubts(self.facts)])

    def mesh(self, name: str | None = None) -> Mesh:
        """Return the head (mm) at a morph target's full weight, or at rest."""
        vertices = self.avatar.neutral.vertices_mm
        if name is not None:
            vertices = vertices + self.avatar.morphs_mm[name]
        return Mesh(
            vertices=vertices,
            faces=self.head.faces,
            uv=self.head.uv,
            faces_uv=self.head.faces_uv,
            texture=self.avatar.texture,
        )

    def _mesh_paths(self, folder: Path | None) -> dict[Path, str]:
        if folder is None:
            return {}
        make_folder(folder)
        # Words may hold what a file name cannot.
        stems = {
            e.name: e.category if e.text is None else f"text_{i}_{e.category}" for i, e in enumerate(self.expressions)
        }
        return {folder / f"{stem}{suffix}": name for name, stem in stems.items() for suffix in (".ply", ".obj")}

    def _write_mesh(self, name: str, temporary: Path, path: Path) -> None:
        from omote.formats.write import save_obj, save_ply

        mesh = self.mesh(name if name in self.avatar.morphs_mm else None)
        if path.suffix == ".ply":
            save_ply(mesh, temporary)
        else:
            # One texture for seven meshes is the GLB's business; an OBJ here is for geometry.
            save_obj(replace(mesh, texture=None), temporary)

    def _write_sheet(self, glb: Path, path: Path) -> None:
        from omote.pipelines.sheet import write_sheet

        write_sheet(path, glb, source=self.source, generated=self.generated)


def avatar(
    scan: Path | str | Scan,
    *,
    expressions: Sequence[str | Expression] = ("all",),
    texts: Sequence[str] = (),
    intensity: float = 1.0,
    seed: int = 0,
    steps: int | None = None,
    guidance_scale: float | None = None,
    unit: Unit = "auto",
    landmarks: Path | str | np.ndarray | None = None,
    backend: Literal["auto", "torch", "openvino"] = "auto",
    head: Path | str | None = None,
    weights: Path | str | None = None,
    own_process: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> AvatarMade:
    """Make an avatar of a scan.

    Args:
        scan: a file, or what `omote.read` returns.
        expressions: categories, `Expression`s, or "all".
        texts: expressions in words, English or Japanese ("slightly disgusted"); each becomes a target named as it is said.
        intensity: [0, 1], of the expressions given by category.
        seed: of the diffusion's noise.
        steps: of the diffusion; the shipped setting if None.
        guidance_scale: 1 means none; the shipped setting if None.
        unit: of the scan's coordinates; "auto" estimates it.
        landmarks: 68 × 3 in the scan's coordinates, or a file of them; found by themselves if None.
        backend: what runs the networks.
        head: ICT-FaceKit, by path, as output head; the shipped one if None.
        weights: a folder with ``autoencoder/`` and ``editor/``; the shipped one if None.
        own_process: load the networks in a process beside this one, which saves seconds where a single avatar is made. A
            script that does so must guard its main part (``if __name__ == "__main__"``).
        on_step: called with progress.

    Raises:
        ScanError: the file cannot be read.
        AlignmentError: no face was found with confidence; the message says what to give.
        ConfigError: an unknown expression, words that name none, or a number out of range.
        HeadModelError, CheckpointError: a head or weights that do not load.
    """
    wanted = expressions_of(expressions, intensity)
    if texts:
        from omote.rgbd.conditions.text.reader import TextReader

        reader = TextReader.load() if weights is None else TextReader.load(Path(weights))
        wanted = expressions_of([*wanted, *reader.expressions(texts)])
    if steps is not None and not 1 <= steps <= 1000:
        raise ConfigError(f"steps: expected 1 to 1000, got {steps}")
    if guidance_scale is not None and not 0 <= guidance_scale <= 20:
        raise ConfigError(f"guidance-scale: expected 0 to 20, got {guidance_scale}")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed: expected 0 to 2^63 - 1, got {seed}")
    watch, folder = Stopwatch(), None if weights is None else Path(weights)
    with _editing_process(folder, backend) if own_process else nullcontext() as editor:
        points = read_landmarks(landmarks) if isinstance(landmarks, Path | str) else landmarks

        def tell(stage: str) -> None:
            if on_step is not None:
                on_step(Step(stage=stage))

        facts: dict[str, Value] = {}
        tell("read")
        with watch("read"):
            if isinstance(scan, Path | str):
                from omote.formats.read import read_with_report

                scan, found = read_with_report(scan)
                facts.update(prefixed("scan", vars(found)))
        tell("load")
        with watch("load"):
            from omote.diffusion.settings import EditSettings
            from omote.pipelines.rgbd import RgbdPipeline

            default = EditSettings()
            model = load_head(head)
            pipeline = RgbdPipeline.load(backend=backend, head=model, weights=folder, editor=editor)
        steps = default.steps if steps is None else steps
        guidance_scale = default.guidance_scale if guidance_scale is None else guidance_scale
        work = pipeline(
            scan,
            expressions=wanted,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            unit=None if unit == "auto" else unit,
            landmarks=points,
        )
        result = finish(work, on_step)
        settings = {
            "expressions": [e.name for e in wanted],
            "intensity": [e.intensity for e in wanted],
            "seed": seed,
            "steps": steps,
            "guidance_scale": guidance_scale,
            "unit": unit,
            "landmarks": "estimated" if points is None else "given",
            "backend": backend,
            "head": model.name,
        }
        watch.stages_s.update(result.timings_s)
        run = run_facts(watch, elsewhere_mb=0.0 if editor is None else editor.peak_memory_mb)
        facts = {**prefixed("settings", settings), **facts, **result.report, **run}
        return AvatarMade(
            avatar=result.avatar,
            appearance=result.appearance,
            head=model,
            source=result.source,
            generated=result.generated,
            expressions=wanted,
            facts=facts,
        )


def demo(
    out: Path | str = "out",
    *,
    seed: int = 0,
    steps: int | None = None,
    backend: Literal["auto", "torch", "openvino"] = "auto",
    own_process: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> AvatarMade:
    """Make an avatar of a made-up person seen by a simulated depth camera; everything is written to ``out``.

    Args:
        out: folder, made if missing: scan/ (the camera's frame), avatar.glb, sheet.png, report.json.
        seed: which person.
        steps: of the diffusion.
        backend: what runs the networks.
        own_process: as for `avatar`.
        on_step: called with progress.

    Raises:
        OutputError: ``out`` cannot be written.
    """
    out = Path(out)
    check_folder(out)
    if on_step is not None:
        on_step(Step(stage="capture"))
    frame = sensed_frame(seed, load_head(None))
    make_folder(out)
    save_rgbd(frame, out / "scan")
    outputs = AvatarOutputs(glb=out / "avatar.glb", report=out / "report.json", sheet=out / "sheet.png").checked()
    result = avatar(out / "scan", seed=seed, steps=steps, backend=backend, own_process=own_process, on_step=on_step)
    result.save_all(outputs, on_step=on_step)
    return result


@contextmanager
def _editing_process(folder: Path | None, backend: Literal["auto", "torch", "openvino"]) -> Iterator[EditingProcess]:
    from omote.rgbd.backends.process import EditingProcess
    from omote.rgbd.weights import SHIPPED_WEIGHTS, check_weights

    folder = SHIPPED_WEIGHTS if folder is None else folder
    check_weights(folder)
    process = EditingProcess(folder, backend)
    try:
        yield process
    finally:
        process.close()


def expressions_of(wanted: Sequence[str | Expression], intensity: float = 1.0) -> tuple[Expression, ...]:
    """Turn names (``"happy"``, ``"happy,sad"``, ``"all"``) into expressions, each name once.

    Raises:
        ConfigError: an unknown name, one given twice, none at all, or an intensity out of [0, 1].
    """
    from omote.head.expressions import CATEGORIES

    if not 0 <= intensity <= 1:
        raise ConfigError(f"intensity: expected 0 to 1, got {intensity}")
    out: dict[str, Expression] = {}
    for item in wanted:
        if isinstance(item, Expression):
            given = [item]
        else:
            names = [name.strip().lower() for name in item.split(",") if name.strip()]
            names = [c for name in names for c in (CATEGORIES if name == "all" else (name,))]
            given = [Expression(category=name, intensity=intensity) for name in names]
        for expression in given:
            category, name = expression.category, expression.name
            if category not in CATEGORIES:
                raise ConfigError(f"expressions: unknown {category!r}{nearest(category, [*CATEGORIES, 'all'])}")
            if name in out:
                raise ConfigError(f"expressions: {name!r} is given twice; give it once")
            out[name] = expression
    if not out:
        raise ConfigError("expressions: expected at least one, got none; leave the option out for all")
    return tuple(out.values())

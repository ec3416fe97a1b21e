"""The steps that all candidates share: alignment before the expressions, texture and avatar after them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from omote.align.align import Alignment, align
from omote.asset.mouth import seat_mouth
from omote.asset.personalise import limited_units, personal_units
from omote.asset.rest_shape import beyond_face, rest_shape
from omote.asset.surroundings import surroundings_of
from omote.asset.texture import Baked, bake_texture, drawn_appearance
from omote.completion.aligned import AlignedCompletion
from omote.cores import thread_pool
from omote.head.expressions import ARKIT_NAMES, with_weights
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.lift.motion_limits import rigid_vertices
from omote.lift.register import Registered
from omote.lift.travel import natural_weights
from omote.lift.untangle import RestSkin, rest_skin
from omote.pipelines.result import AvatarResult
from omote.pipelines.settings import AvatarSettings
from omote.progress import Step, Steps
from omote.runs import Stopwatch, Value
from omote.types import Avatar, Expression, Head, Mesh, PointCloud, Rgbd, Scan

NEUTRAL = "neutral"
BESIDE_AN_EDIT = 2  # stages that run beside the networks and need a core: texture, and limits of units
Vertices = Float[np.ndarray, "v 3"]


@dataclass(frozen=True, kw_only=True)
class Neutral:
    """An aligned scan, as the input of every candidate.

    Attributes:
        alignment: alignment of the scan.
        vertices_mm: vertices of the person at rest.
        scanned_mm: vertices of the person as scanned, with the mouth's inside in place.
        skin: the person's skin at rest, from which strain is measured.
        units_ready: the person's linear units, which the pool computes.
        pool: pool of threads for background stages.
    """

    alignment: Alignment
    vertices_mm: Vertices
    scanned_mm: Vertices
    skin: RestSkin
    units_ready: Future[Float[np.ndarray, "52 v 3"]]
    pool: Executor

    @property
    def units(self) -> Float[np.ndarray, "52 v 3"]:
        """The person's linear units, with which images are registered."""
        return self.units_ready.result()


@dataclass(frozen=True, kw_only=True)
class Expressed:
    """Expressions that a candidate generated for a person.

    Attributes:
        source: front view of the source, as the networks received it.
        generated: front view of every generated expression by name, including one at rest.
        lifted: head of every expression that is not at rest, by name.
        facts: further entries of the report.
    """

    source: Rgbd
    generated: Mapping[str, Rgbd]
    lifted: Mapping[str, Registered]
    facts: Mapping[str, Value] = field(default_factory=dict)


class AvatarPipeline(ABC):
    """Scan → avatar; candidates differ in how they generate a person's expressions (`expressed`).

    Args:
        head: output head model.
        complete: completion of aligned scans; if None, they are used as they are.
    """

    def __init__(self, head: HeadModel, complete: AlignedCompletion | None = None) -> None:
        self.head, self.complete = head, complete

    def load(self) -> None:  # noqa: B027 (an optional hook)
        """Wait until the networks are loaded.

        Raises:
            CheckpointError: they do not load.
        """

    @abstractmethod
    def expressed(
        self,
        neutral: Neutral,
        wanted: Sequence[Expression],
        settings: AvatarSettings,
        *,
        given: Set[str],
        watch: Stopwatch,
    ) -> Steps[Expressed]:
        """Generate the expressions of a person.

        Args:
            neutral: the person at rest.
            wanted: expressions to generate, all with ARKit weights.
            settings: seed, steps and guidance.
            given: names of the expressions whose weights must be kept exactly.
            watch: stopwatch that records the seconds per stage.
        """

    def __call__(
        self,
        scan: Scan,
        expressions: Sequence[Expression],
        settings: AvatarSettings,
        *,
        landmarks: Float[np.ndarray, "68 3"] | None = None,
        watch: Stopwatch,
    ) -> Steps[AvatarResult]:
        """Make an avatar, yielding its steps.

        Args:
            scan: scan in its own coordinates.
            expressions: expressions to generate; without ARKit weights, a typical recipe of the category is used.
            settings: seed, steps, guidance and unit.
            landmarks: landmarks in the scan's coordinates; if None, they are detected.
            watch: stopwatch that records the seconds per stage.

        Raises:
            AlignmentError: no face found with confidence.
            CheckpointError: the named completion's weights do not load.
        """
        yield Step(stage="align")
        with watch("align"):
            alignment = align(scan, head=self.head, unit=settings.unit, landmarks=landmarks)
        if self.complete is None:
            return (yield from self.made(alignment, expressions, settings, watch=watch))
        with watch("complete"):
            alignment, name = self.complete(scan, alignment)
        result = yield from self.made(alignment, expressions, settings, watch=watch)
        return replace(result, facts={**result.facts, "avatar/completion": name})

    def made(
        self, alignment: Alignment, expressions: Sequence[Expression], settings: AvatarSettings, *, watch: Stopwatch
    ) -> Steps[AvatarResult]:
        """Make the avatar of an aligned scan; arguments as in `__call__`."""
        head = self.head
        neutral, scanned = rest_shape(head, alignment), seat_mouth(head, alignment.vertices_mm)
        if isinstance(alignment.scan, Mesh):
            skull = beyond_face(head, alignment.scan, alignment.vertices_mm)
            neutral, scanned = neutral + skull, scanned + skull
        drawn = drawn_appearance(settings.appearance_seed, alignment.fit.identity)
        style = head.style_share(alignment.fit.identity)
        units = head.units_mm(style)
        wanted = [_weighted(head, units, neutral, expression, settings.seed) for expression in expressions]

        # Texture and limits of units depend on the neutral shape only, and expressions are independent: they run in parallel.
        # Each stage has one core: if BLAS or the networks use all cores, they and the stages wait for each other.
        pool, limits = thread_pool(), threadpool_limits(1, "blas")
        try:
            skin = rest_skin(head, neutral)
            units_ready = pool.submit(personal_units, head, neutral, style_share=style)
            # In a pool of one worker, too, the units are ready first.
            limited_ready = pool.submit(lambda: limited_units(head, neutral, units_ready.result(), skin))
            baked_ready = pool.submit(bake_texture, head, scanned, alignment.scan, unseen=drawn)
            around_ready = None
            if settings.surroundings == "keep" and isinstance(alignment.scan, Mesh):
                around_ready = pool.submit(surroundings_of, head, alignment.scan, neutral, hair=drawn.hair)
            given = {expression.name for expression in expressions if _given(expression)}
            person = Neutral(
                alignment=alignment,
                vertices_mm=neutral,
                scanned_mm=scanned,
                skin=skin,
                units_ready=units_ready,
                pool=pool,
            )
            shown = yield from self.expressed(person, wanted, settings, given=given, watch=watch)
            yield Step(stage="texture")
            with watch("texture"):
                limited, baked = limited_ready.result(), baked_ready.result()
                around = None if around_ready is None else around_ready.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            limits.restore_original_limits()

        avatar = _avatar(head, neutral, shown.lifted, wanted, limited, alignment, baked, around)
        names = {expression.name for expression in wanted}
        return AvatarResult(
            avatar=avatar,
            head=head,
            appearance=baked.appearance,
            source=shown.source,
            generated={name: image for name, image in shown.generated.items() if name in names},
            expressions=tuple(wanted),
            facts={
                **alignment.report(),
                **shown.facts,
                **_facts(head, avatar, shown.lifted, names),
                "avatar/surroundings": _surroundings_fact(settings, alignment.scan, avatar),
            },
        )


def _avatar(
    head: HeadModel,
    neutral: Vertices,
    lifted: Mapping[str, Registered],
    wanted: Sequence[Expression],
    units: Float[np.ndarray, "52 v 3"],
    alignment: Alignment,
    baked: Baked,
    around: Mesh | None,
) -> Avatar:
    """The avatar with its expressions in the order of the request, then the units."""
    morphs = {
        e.name: (lifted[e.name].vertices_mm - neutral).astype(np.float32)
        if e.name in lifted
        else np.zeros_like(neutral)
        for e in wanted
    }
    morphs |= {name: unit.astype(np.float32) for name, unit in zip(ARKIT_NAMES, units, strict=True)}
    return Avatar(
        neutral=Head(
            model_name=head.name,
            vertices_mm=neutral.astype(np.float32),
            inferred=alignment.inferred,
            sigma_mm=alignment.sigma_mm,
        ),
        morphs_mm=morphs,
        texture=baked.texture,
        texture_inferred=baked.inferred,
        surroundings=around,
    )


def _surroundings_fact(settings: AvatarSettings, scan: PointCloud | Mesh, avatar: Avatar) -> str:
    """What became of the scan's hair and collar, for the report."""
    if settings.surroundings == "drop":
        return "dropped"
    if isinstance(scan, PointCloud):
        return "left out: points and depth frames have no surface; give a mesh for hair and collar"
    return "none" if avatar.surroundings is None else f"kept: {len(avatar.surroundings.faces):,} triangles"


def _given(expression: Expression) -> bool:
    """Whether the weights were given explicitly, and must be kept exactly."""
    return expression.arkit is not None and expression.text is None


def _weighted(
    head: HeadModel, units_mm: Float[np.ndarray, "52 v 3"], neutral: Vertices, expression: Expression, form: int
) -> Expression:
    """The expression with its given weights, or with those of its category as far as this face can show them."""
    if _given(expression):
        return expression
    named = with_weights(expression, form)
    assert named.arkit is not None
    return replace(named, arkit=natural_weights(head, units_mm, neutral, named.arkit))


def _uncertainty(head: HeadModel, sigma_mm: Float[np.ndarray, " v"]) -> dict[str, Value]:
    region = head_region(head)
    return {
        "avatar/sigma_mm_face": float(sigma_mm[region.face].mean()),
        "avatar/sigma_mm_head": float(sigma_mm[region.exterior | region.ear].mean()),
    }


def _facts(head: HeadModel, avatar: Avatar, lifted: Mapping[str, Registered], names: set[str]) -> dict[str, Value]:
    rigid = rigid_vertices(head)
    # Skull, ears and bridge of the nose: no expression moves them.
    moved = [float(np.linalg.norm(avatar.morphs_mm[name][rigid], axis=1).max(initial=0.0)) for name in names]
    return {
        **{f"lift/residual_mm_{name}": registered.residual_mm for name, registered in lifted.items()},
        "avatar/inferred_vertices": float(avatar.neutral.inferred.mean()),
        **({} if avatar.neutral.sigma_mm is None else _uncertainty(head, avatar.neutral.sigma_mm)),
        "avatar/inferred_texels": float(avatar.texture_inferred.mean()),
        "avatar/rigid_motion_max_mm": max(moved),
    }

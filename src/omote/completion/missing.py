"""What a scan may lack, in eight kinds from mild to strong, for measuring completions (`omote study missing-depth`).

Each kind is what one way of scanning loses: a subject is seen by a camera, physical where the kind is a camera's
(`omote.rendering.sensor`), loses the kind's part of what was seen, and the head is fitted to the rest as it is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from omote.completion.base import PartialScan
from omote.completion.partials import found_landmarks
from omote.datasets.population import Person, render_person
from omote.geometry.camera import orbit_camera, rgbd_points, transform
from omote.geometry.cloud import estimate_normals
from omote.head.fit import fit_head
from omote.head.model import HeadModel
from omote.rendering.sensor import SensorModel, sense, stereo, structured_light, time_of_flight
from omote.types import Camera, Rgbd

SIZE_PX, DISTANCE_MM, FIELD_MM = 192, 700.0, 280.0
MILD, STRONG = "mild", "strong"
STRENGTHS = {MILD: 0.0, STRONG: 1.0}
NOSE_TIP, EYES, MIDDLE = 30, (slice(36, 42), slice(42, 48)), slice(27, 31)
NEIGHBORS = 24  # of the plane that gives a point's normal; few feel the noise


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A head that is known whole.

    Attributes:
        image: function that renders it in a camera, without a sensor's errors.
        vertices_mm: its true vertices in the topology of the head model, in the world frame of the cameras.
    """

    image: Callable[[Camera], Rgbd]
    vertices_mm: Float[np.ndarray, "v 3"]


def subject_of(person: Person, heads: Sequence[HeadModel], in_topology: Sequence[HeadModel]) -> Subject:
    """A person of a population, at rest.

    Args:
        person: the person.
        heads: head models of the population.
        in_topology: the same in the topology of the head model that is fitted (`omote.head.correspondence.in_topology_of`).
    """
    still = person.expressions[:1]

    def image(camera: Camera) -> Rgbd:
        return next(render_person(replace(person, camera=camera), heads, still))[0]

    return Subject(image=image, vertices_mm=in_topology[person.head].vertices(person.identity, still[0].arkit))


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a camera saw of a subject.

    Attributes:
        image: image as the sensor gives it.
        points_mm: world points of all pixels; of those outside the mask without meaning.
        landmarks_mm: the subject's true landmarks.
        strength: 0 (mild) to 1 (strong).
    """

    image: Rgbd
    points_mm: Float[np.ndarray, "h w 3"]
    landmarks_mm: Float[np.ndarray, "68 3"]
    strength: float

    def between(self, mild: float, strong: float) -> float:
        """A quantity at this strength."""
        return mild + self.strength * (strong - mild)


Keep = Callable[[Sight, np.random.Generator], Bool[np.ndarray, "h w"]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of missing surface.

    Attributes:
        says: what is lost, from mild to strong.
        keep: function that marks the pixels that are left.
        sensor: sensor that sees the subject.
        most_yaw_deg: yaw of the camera at full strength; 0 for one from the front.
    """

    says: str
    keep: Keep
    sensor: SensorModel = SensorModel()
    most_yaw_deg: float = 0.0


@dataclass(frozen=True, kw_only=True)
class MissingCase:
    """A partial scan with the truth that it lacks.

    Attributes:
        partial: the partial scan, in the canonical frame of its fit.
        truth_mm: true vertices in that frame.
        canonical_from_world: motion from the subject's frame.
    """

    partial: PartialScan
    truth_mm: Float[np.ndarray, "v 3"]
    canonical_from_world: Float[np.ndarray, "4 4"]


def missing_case(subject: Subject, kind: str, strength: str, head: HeadModel, seed: int) -> MissingCase:
    """A partial scan of a subject; a function of its arguments.

    Args:
        subject: the whole head.
        kind: one of `KINDS`.
        strength: one of `STRENGTHS`.
        head: head model that is fitted.
        seed: seed of noise, losses, and of the landmarks' errors.

    Raises:
        AlignmentError: the head cannot be fitted to what is left.
    """
    what, share = KINDS[kind], STRENGTHS[strength]
    rng = np.random.default_rng([seed, list(KINDS).index(kind), list(STRENGTHS).index(strength)])
    # A camera that turns stands at a quarter of the angle where the kind is mild.
    yaw = np.deg2rad(what.most_yaw_deg * (0.25 + 0.75 * share))
    camera = orbit_camera(size=SIZE_PX, yaw_rad=float(yaw), distance_mm=DISTANCE_MM, field_mm=FIELD_MM)
    image = sense(subject.image(camera), what.sensor, rng)
    points = np.zeros((*image.mask.shape, 3))
    points[image.mask], _ = rgbd_points(image)
    landmarks = head.landmarks(subject.vertices_mm)
    kept = image.mask & what.keep(Sight(image=image, points_mm=points, landmarks_mm=landmarks, strength=share), rng)

    seen, center = points[kept], np.linalg.inv(camera.cam_from_world)[:3, 3]
    normals = estimate_normals(seen, neighbors=NEIGHBORS, towards=center)
    fit = fit_head(
        head, seen, landmarks=found_landmarks(landmarks, seen, rng), normals=normals, fixed_scale=1.0, measured=False
    )
    motion = fit.canonical_from_scan
    partial = PartialScan(
        points_mm=transform(motion, seen),
        normals=normals @ motion[:3, :3].T,
        colors=image.rgb[kept],
        fitted_mm=fit.vertices_mm,
    )
    truth = transform(motion, subject.vertices_mm.astype(np.float64))
    return MissingCase(partial=partial, truth_mm=truth, canonical_from_world=motion)


def _dropouts(sight: Sight, rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Half of the loss in blobs of some pixels, half pixel by pixel."""
    share = sight.between(0.03, 0.40)
    field = ndimage.gaussian_filter(rng.standard_normal(sight.image.mask.shape), 4.0)
    blobs = field < np.quantile(field[sight.image.mask], share / 2)
    return ~blobs & (rng.random(blobs.shape) >= share / 2)


def _outline(sight: Sight, _rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    px = sight.between(4.0, 20.0) / (FIELD_MM / SIZE_PX)
    return np.asarray(ndimage.distance_transform_edt(sight.image.mask) > px)


def _dark(sight: Sight, _rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Hair, brows and beard: infrared light comes back weakly from what is dark."""
    bright = ndimage.gaussian_filter(sight.image.rgb.mean(axis=-1), 1.0)
    return np.asarray(bright > np.quantile(bright[sight.image.mask], sight.between(0.08, 0.40)))


def _eyes(sight: Sight, _rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Eyes mirror the light away; so does an oily nose."""
    kept = np.ones(sight.image.mask.shape, bool)
    for ids, share in (*((eye, 1.0) for eye in EYES), (slice(NOSE_TIP, NOSE_TIP + 1), 0.6)):
        center = sight.landmarks_mm[ids].mean(axis=0)
        kept &= np.linalg.norm(sight.points_mm - center, axis=-1) > share * sight.between(9.0, 19.0)
    return kept


def _all(sight: Sight, _rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    return np.ones(sight.image.mask.shape, bool)


def _sparse(sight: Sight, rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    wanted = np.exp(sight.between(np.log(5000.0), np.log(300.0)))
    return rng.random(sight.image.mask.shape) < wanted / max(int(sight.image.mask.sum()), 1)


def _half(sight: Sight, rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    side = 1.0 if rng.random() < 0.5 else -1.0
    middle = float(sight.landmarks_mm[MIDDLE, 0].mean())
    return np.asarray(side * (sight.points_mm[..., 0] - middle) > sight.between(-20.0, 0.0))


def _mask(sight: Sight, _rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """An ellipse about the middle of the face, from 130 × 170 to 90 × 120 mm."""
    center = sight.landmarks_mm[27:].mean(axis=0)
    away = (sight.points_mm - center)[..., :2] / (sight.between(65.0, 45.0), sight.between(85.0, 60.0))
    return np.asarray((away**2).sum(axis=-1) < 1.0)


KINDS: Mapping[str, Kind] = {
    "dropouts": Kind(says="3 to 40 % of the pixels", keep=_dropouts, sensor=structured_light()),
    "outline": Kind(says="4 to 20 mm along the outline", keep=_outline, sensor=time_of_flight()),
    "dark": Kind(says="the darkest 8 to 40 % of the pixels", keep=_dark, sensor=time_of_flight()),
    "eyes": Kind(
        says="balls of 9 to 19 mm around the eyes, and the tip of the nose", keep=_eyes, sensor=structured_light()
    ),
    "turned": Kind(
        says="what one camera does not see at a yaw of 15 to 60°", keep=_all, sensor=stereo(), most_yaw_deg=60.0
    ),
    "sparse": Kind(says="all but 5,000 to 300 points", keep=_sparse),
    "half": Kind(says="one side, up to 20 or 0 mm beyond the middle", keep=_half, sensor=structured_light()),
    "mask": Kind(says="all outside an ellipse of 130 × 170 to 90 × 120 mm", keep=_mask),
}

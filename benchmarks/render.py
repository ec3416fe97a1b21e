"""RGB-D images of heads per second at 128², ours against Embree, on the same heads and cameras in the same run.

Ours is `render_head` whole: normals, shading, 2×2 supersampled colour, depth, mask; one process per core. Populations change
every vertex of every image, so Embree (trimesh + embreex) rebuilds its BVH per image and then casts one ray per pixel for
depth alone; `embree_cast` leaves the rebuilding out. ``embree_depth_mm/p99`` says that both see the same surface.
Rates are wall clock and fall on a busy machine; ``cpu_ms_per_image`` is processor time, and ``machine/load_1min`` tells.

Run: ``make bench BENCH=render OUT=dir`` or ``python benchmarks/render.py --out dir``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from omote.geometry.camera import orbit_camera, pixel_grid, unproject
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.rendering.appearance import default_appearance, paint
from omote.rendering.rgbd import render_head
from omote.rendering.shade import camera_center, studio_light
from omote.types import Camera

SIZE = 128
NUM_HEADS = 8
ROUND_S = 3.0
ROUNDS = 3


def _heads(seed: int) -> tuple[HeadModel, list[np.ndarray], list[Camera]]:
    rng = np.random.default_rng(seed)
    head = shipped_head()
    vertices = [
        head.vertices(
            np.clip(0.7 * rng.standard_normal(head.num_identity), -2, 2), 0.3 * rng.uniform(size=52) ** 2
        ).astype(np.float32)
        for _ in range(NUM_HEADS)
    ]
    cameras = [orbit_camera(size=SIZE, yaw_rad=float(y)) for y in rng.normal(0, 0.15, NUM_HEADS)]
    return head, vertices, cameras


def _ours(job: tuple[int, float]) -> tuple[int, float, float]:
    """Images, seconds and processor seconds of one process, once warm and past the start time that all share."""
    seed, start = job
    head, vertices, cameras = _heads(seed)
    appearance, light = default_appearance(), studio_light()
    albedo = paint(head, appearance)

    def one(k: int) -> None:
        i = k % NUM_HEADS
        render_head(head, vertices[i], cameras[i], appearance=appearance, albedo=albedo, light=light)

    one(0)
    time.sleep(max(0.0, start - time.time()))
    count, begun, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < ROUND_S:
        one(count)
        count += 1
    return count, time.perf_counter() - begun, time.process_time() - used


def _embree(job: tuple[int, float]) -> tuple[int, float, float, float]:
    """Images, seconds with BVH building, seconds of casting alone, 99th percentile of depth difference to ours in mm."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    seed, start = job
    head, vertices, cameras = _heads(seed)
    rays = []
    for camera in cameras:
        ahead = np.concatenate([pixel_grid(camera), np.ones((SIZE * SIZE, 1))], axis=1)
        origin = camera_center(camera.cam_from_world)
        direction = unproject(camera, ahead) - origin
        rays.append((np.tile(origin, (SIZE * SIZE, 1)), direction / np.linalg.norm(direction, axis=1, keepdims=True)))

    def cast(caster: RayMeshIntersector, i: int) -> tuple[np.ndarray, np.ndarray]:
        point, ray, _ = caster.intersects_location(*rays[i], multiple_hits=False)
        return point, ray

    def build(i: int) -> RayMeshIntersector:
        caster = RayMeshIntersector(trimesh.Trimesh(vertices[i], head.faces, process=False))
        caster.intersects_any(rays[i][0][:1], rays[i][1][:1])  # the scene is built at the first ray
        return caster

    image = render_head(head, vertices[0], cameras[0])
    point, ray = cast(build(0), 0)
    z = point @ cameras[0].cam_from_world[2, :3] + cameras[0].cam_from_world[2, 3]
    both = image.mask.ravel()[ray]
    difference = float(np.percentile(np.abs(z - image.depth_mm.ravel()[ray])[both], 99))
    time.sleep(max(0.0, start - time.time()))
    count, casting, begun = 0, 0.0, time.perf_counter()
    while time.perf_counter() - begun < ROUND_S:
        caster = build(count % NUM_HEADS)
        before = time.perf_counter()
        cast(caster, count % NUM_HEADS)
        casting += time.perf_counter() - before
        count += 1
    return count, time.perf_counter() - begun, casting, difference


def run() -> dict[str, float | int | str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ours, cpu_ms, rebuilt, cast, difference = [], [], [], [], 0.0
    with get_context("spawn").Pool(cores) as pool:
        pool.map(_ours, [(0, 0.0)] * cores, chunksize=1)  # compilation and imports
        pool.map(_embree, [(0, 0.0)] * cores, chunksize=1)
        # In turns, so that whatever else the machine does falls on both.
        for r in range(ROUNDS):
            jobs = [(r * cores + i, time.time() + 2.0) for i in range(cores)]
            own = pool.map(_ours, jobs, chunksize=1)
            ours.append(sum(n / s for n, s, _ in own))
            cpu_ms.append(1000 * sum(used for _, _, used in own) / sum(n for n, _, _ in own))
            jobs = [(r * cores + i, time.time() + 2.0) for i in range(cores)]
            results = pool.map(_embree, jobs, chunksize=1)
            rebuilt.append(sum(n / s for n, s, _, _ in results))
            cast.append(sum(n / s for n, _, s, _ in results))
            difference = max(difference, *(d for _, _, _, d in results))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    median = {k: float(np.median(v)) for k, v in (("ours", ours), ("rebuilt", rebuilt), ("cast", cast))}
    return {
        "size_px": SIZE,
        "processes": cores,
        "faces": len(shipped_head().faces),
        "images_per_s": median["ours"],
        "images_per_s/best": max(ours),
        "cpu_ms_per_image": float(np.median(cpu_ms)),
        "images_per_s/embree": median["rebuilt"],
        "images_per_s/embree_cast": median["cast"],
        "ratio/ours_over_embree": median["ours"] / median["rebuilt"],
        "ratio/ours_over_embree_cast": median["ours"] / median["cast"],
        "embree_depth_mm/p99": difference,
        "machine/load_1min": load,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rendered RGB-D images per second, ours against Embree.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    result = run()
    (folder / "render.json").write_text(json.dumps(result, indent=2) + "\n")
    for key, value in result.items():
        print(f"{key}: {value}")

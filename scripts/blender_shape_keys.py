"""What Blender reads of an avatar: its meshes and shape keys, and how far one key moves the head; the tutorial's steps by script.

pip install bpy     # Blender as a module, in an environment of its own: https://docs.blender.org/api/current/info_advanced_blender_as_bpy.html
python scripts/blender_shape_keys.py avatar.glb happy picture.png
"""

from __future__ import annotations

import sys
from math import pi

import bpy
import numpy as np


def evaluated_mm(head: bpy.types.Object) -> np.ndarray:
    """The head's vertices with its shape keys applied."""
    shown = head.evaluated_get(bpy.context.evaluated_depsgraph_get())
    vertices = np.array([vertex.co[:] for vertex in shown.to_mesh().vertices])
    shown.to_mesh_clear()
    return 1000 * vertices


def draw(head: bpy.types.Object, path: str) -> None:
    """Draw the head from the front."""
    scene = bpy.context.scene
    places = np.array([head.matrix_world @ vertex.co for vertex in head.data.vertices])
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.lens = 85
    camera.location = (places.max(0) + places.min(0)) / 2 - np.array([0.0, 1.0, 0.0])
    camera.rotation_euler = (pi / 2, 0, 0)
    lamp = bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "SUN"))
    lamp.data.energy, lamp.rotation_euler = 3, (0.9, 0, 0.5)
    for thing in (camera, lamp):
        scene.collection.objects.link(thing)
    scene.world = bpy.data.worlds.new("sky")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs[0].default_value = (0.5, 0.5, 0.5, 1.0)
    scene.camera, scene.render.engine = camera, "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 16, False
    scene.render.resolution_x = scene.render.resolution_y = 480
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)


def main() -> None:
    """For the command line."""
    glb, name, picture = sys.argv[1:]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=glb)
    head = bpy.data.objects["head"]
    keys = head.data.shape_keys.key_blocks
    rest = evaluated_mm(head)
    keys[name].value = 1
    keys[name].keyframe_insert("value", frame=1)
    moved = np.linalg.norm(evaluated_mm(head) - rest, axis=1)
    print(f"Blender {bpy.app.version_string}: {len(rest)} vertices, {len(keys) - 1} shape keys")
    print(f"{name}: {(moved > 0.1).sum()} vertices move more than .1 mm, at most {moved.max():.1f} mm")
    draw(head, picture)


if __name__ == "__main__":
    main()

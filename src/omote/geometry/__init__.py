"""Cameras, meshes and point operations."""

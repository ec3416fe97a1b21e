"""Scan files in, cleaned meshes, point clouds and RGB-D frames out."""

from omote.formats.read import ReadReport, read, read_with_report

__all__ = ["ReadReport", "read", "read_with_report"]

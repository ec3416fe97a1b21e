"""3D to RGB-D."""

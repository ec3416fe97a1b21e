"""Flows, objectives, samplers and guidance, independent of faces and of file formats."""

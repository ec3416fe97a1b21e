"""Flows, objectives, samplers and guidance; no face and no file is known here."""

"""Backends that run the networks of candidate 3."""

"""Populations of synthetic persons, their cache on disk, and the batches drawn from it."""

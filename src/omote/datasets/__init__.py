"""Populations of made-up persons, their cache on disk, and the batches drawn from it."""

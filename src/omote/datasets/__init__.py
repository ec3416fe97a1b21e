"""Populations of synthetic persons, their cache on disk, and the training batches drawn from it."""

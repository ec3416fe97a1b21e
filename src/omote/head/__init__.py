"""Morphable head models, the expression vocabulary, and model fitting."""

"""Morphable heads, the expression vocabulary, and fitting."""

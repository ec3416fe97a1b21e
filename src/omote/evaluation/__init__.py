"""Metrics, judges, and the reports that use them."""

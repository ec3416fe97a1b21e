"""Metrics, judges and the benchmarks that use them."""

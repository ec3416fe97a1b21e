"""Suites and studies, a file each."""

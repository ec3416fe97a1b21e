"""Suites and studies: what is compared with what, a file each."""

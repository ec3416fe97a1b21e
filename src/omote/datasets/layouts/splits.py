"""Subject-disjoint splits: a person's split does not depend on the folder, the order or the number of scans."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

DatasetSplit = Literal["train", "validation", "test"]
DATASET_SPLITS: tuple[DatasetSplit, ...] = ("train", "validation", "test")
TEST_SHARE, VALIDATION_SHARE = 0.1, 0.1


def subject_number(subject: str, seed: int = 0) -> int:
    """A hash of the subject in [0, 2⁶³), the same on every machine."""
    digest = blake2b(f"{seed}\0{subject}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def split_of(subject: str, seed: int = 0) -> DatasetSplit:
    """The split of a subject: a tenth each for validation and test, by hash.

    Adding subjects does not change the split of the others. With few subjects a split may be empty; try another seed then.
    """
    place = subject_number(subject, seed) / 2**63
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"

"""Set distances against reference implementations, closed forms, and orders that must not matter."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import linalg

from omote.errors import OmoteError
from omote.evaluation.distribution import (
    feature_statistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    nearest_depth_mm,
    precision_recall,
)


def features(seed, count=300, size=12, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(size, size))
    return (shift + scale * rng.normal(size=(count, size)) @ mix).astype(np.float32)


def reference_fid(a, b):
    """As the field's scripts have it, with a general matrix square root."""
    mu1, mu2 = a.astype(np.float64).mean(0), b.astype(np.float64).mean(0)
    s1, s2 = np.cov(a.astype(np.float64), rowvar=False), np.cov(b.astype(np.float64), rowvar=False)
    root = linalg.sqrtm(s1 @ s2)
    return float(((mu1 - mu2) ** 2).sum() + np.trace(s1 + s2 - 2 * root.real))


def reference_mmd2(x, y):
    """Pair by pair."""

    def k(p, q):
        return (float(p.astype(np.float64) @ q.astype(np.float64)) / len(p) + 1) ** 3

    n = len(x)
    xx = sum(k(x[i], x[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    return xx + yy - 2 * sum(k(p, q) for p in x for q in y) / n**2


def reference_coverage(points, balls, k):
    """Share of points inside any ball, ball by ball."""
    inside = 0
    radii = [sorted(float(np.linalg.norm(c - o)) for o in balls)[k] for c in balls]
    for p in points:
        inside += any(float(np.linalg.norm(p - c)) <= r for c, r in zip(balls, radii, strict=True))
    return inside / len(points)


def test_frechet_is_the_reference():
    a, b = features(0), features(1, shift=0.5, scale=1.3)
    ours = frechet_distance(feature_statistics(a), feature_statistics(b))
    assert ours == pytest.approx(reference_fid(a, b), rel=1e-6)


def test_frechet_of_gaussians_is_the_closed_form():
    """Diagonal covariances: |μ|² + Σ (σ_a - σ_b)²."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3))
    x = (x - x.mean(0)) @ linalg.inv(linalg.sqrtm(np.cov(x, rowvar=False)))
    a, b = x * np.array([1, 2, 3.0]), x * np.array([2, 2, 1.0]) + 1.0
    assert frechet_distance(feature_statistics(a), feature_statistics(b)) == pytest.approx(3 + 1 + 0 + 4, rel=1e-9)


def test_frechet_of_fewer_images_than_dimensions():
    a, b = features(0, count=8, size=40), features(1, count=8, size=40)
    assert frechet_distance(feature_statistics(a), feature_statistics(a)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(feature_statistics(a), feature_statistics(b)) > 1


def test_frechet_of_few_images_is_that_of_their_covariances():
    few, other, many = features(0, count=8, size=40), features(1, count=9, size=40), features(2, count=90, size=40)
    a, b, c = (feature_statistics(x) for x in (few, other, many))
    assert [s.root is None for s in (a, b, c)] == [False, False, True]
    for one, two in ((a, b), (a, c), (c, a)):
        by_covariance = frechet_distance(replace(one, root=None), replace(two, root=None))
        assert frechet_distance(one, two) == pytest.approx(by_covariance, rel=1e-6)


def test_kernel_distance_is_the_reference():
    a, b = features(0, count=20), features(1, count=20, shift=0.3)
    ours = kernel_distance(a, b, num_subsets=3)
    assert ours.subset_size == 20
    assert ours.mean == pytest.approx(reference_mmd2(a, b), rel=1e-6)
    assert ours.std == pytest.approx(0, abs=1e-9)


def test_kernel_distance_of_one_distribution_is_about_zero():
    same = kernel_distance(features(0), features(1), num_subsets=20, subset_size=100)
    other = kernel_distance(features(0), features(1, shift=1.0), num_subsets=20, subset_size=100)
    assert abs(same.mean) < 3 * same.std + 0.1 * other.mean
    assert other.mean > 10 * abs(same.mean)


def test_precision_and_recall_are_the_reference():
    real, generated = features(0, count=60, size=4), features(1, count=50, size=4, shift=0.8)
    ours = precision_recall(real, generated)
    assert ours.precision == pytest.approx(reference_coverage(generated, real, 3), rel=1e-6)
    assert ours.recall == pytest.approx(reference_coverage(real, generated, 3), rel=1e-6)


def test_a_collapsed_generator_is_precise_and_recalls_nothing():
    real = features(0, count=400, size=3)
    collapsed = real[:1] + 1e-3 * features(1, count=100, size=3)
    measured = precision_recall(real, collapsed)
    assert measured.precision == 1
    assert measured.recall < 0.05


def test_inception_score_of_certain_and_even_and_clueless_classifiers():
    certain = np.eye(7)[np.arange(70) % 7]
    assert inception_score(certain, num_splits=10) == (pytest.approx(7), pytest.approx(0, abs=1e-9))
    assert inception_score(np.full((70, 7), 1 / 7))[0] == pytest.approx(1)


def test_orders_do_not_matter():
    a, b = features(0), features(1, shift=0.2)
    shuffled = np.random.default_rng(0).permutation(a)
    first, again = (frechet_distance(feature_statistics(s), feature_statistics(b)) for s in (a, shuffled))
    assert again == pytest.approx(first, rel=1e-9)
    assert precision_recall(a, b) == precision_recall(shuffled, b)


def test_too_few_features_are_one_line():
    with pytest.raises(OmoteError, match="at least 2"):
        feature_statistics(features(0, count=1))
    with pytest.raises(OmoteError, match="more than k = 3"):
        precision_recall(features(0, count=3), features(1))
    with pytest.raises(OmoteError, match="at least 2"):
        kernel_distance(features(0, count=1), features(1))


def test_the_nearest_real_depth_counts_inside_its_mask():
    real = np.stack([np.zeros((4, 4)), np.full((4, 4), 20.0)])
    mask = np.ones((2, 4, 4), bool)
    mask[:, 0] = False
    drawn = np.stack([np.full((4, 4), 5.0), np.full((4, 4), 18.0)])
    drawn[:, 0] = 900  # outside every mask
    np.testing.assert_allclose(nearest_depth_mm(drawn, real, mask), [5, 2])

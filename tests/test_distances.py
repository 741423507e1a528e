"""Distances between sets of features against closed forms, plain definitions, and what other packages compute."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest
import scipy.special
import scipy.stats
from scipy.spatial.distance import cdist

from wgan_jax.metrics import (
    density_coverage,
    frechet_distance,
    inception_score,
    kernel,
    kernel_distance,
    mind,
    moments,
    nearest_neighbour_accuracy,
    neighbours,
    precision_recall,
)
from wgan_jax.metrics.frechet import Moments, Sums, enough
from wgan_jax.metrics.splits import Splits, split_of

from . import record_metrics
from .other_packages import need


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that every set has several, the last of them shorter."""
    for module in (kernel, neighbours):
        monkeypatch.setattr(module, "BLOCK", 7)


# The Fréchet distance


def between(a: Moments, b: Moments) -> float:
    return frechet_distance(a.mean, a.cov, b.mean, b.cov)


def test_moments_are_numpys(rng):
    x = rng.normal(size=(50, 4)) + 1e3
    found = moments(x.astype(np.float32))
    np.testing.assert_allclose(found.mean, x.astype(np.float32).mean(axis=0, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(found.cov, np.cov(x.astype(np.float32).astype(np.float64), rowvar=False), rtol=1e-10)
    assert found.num == 50


def test_sums_come_in_any_order(rng):
    """A float32 sum would differ by 1e-5."""
    x = (rng.normal(size=(60, 5)) + 3).astype(np.float32)
    empty = Sums.empty(5)
    one_host = empty.add(x[40:]).add(x[:7])
    other_host = empty.add(x[7:40])
    for sums in (one_host.merge(other_host), other_host.merge(one_host), empty.add(x)):
        for found, expected in zip(sums.moments(), moments(x), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_commuting_covariances(rng):
    """With one set of eigenvectors it is ‖Δμ‖² + Σ (√λ_a − √λ_b)², and the squares of W₂ between Gaussians."""
    rotation = scipy.stats.special_ortho_group.rvs(6, random_state=0)
    a, b = rng.uniform(0, 4, (2, 6))
    shift = rng.normal(size=6)
    expected = np.sum(shift**2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    for turn in (np.eye(6), rotation):
        covs = ((turn * values) @ turn.T for values in (a, b))
        assert frechet_distance(shift, next(covs), np.zeros(6), next(covs)) == pytest.approx(expected, rel=1e-12)


def test_covariances_that_do_not_commute(rng):
    """The root of the product has the trace Σ√λ over the eigenvalues of the product, which is not symmetric."""
    a, b = (x @ x.T for x in rng.normal(size=(2, 5, 8)))
    root = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    assert np.linalg.norm(a @ b - b @ a) > 1
    expected = np.trace(a) + np.trace(b) - 2 * root
    zero = np.zeros(5)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(expected, rel=1e-11)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(expected, rel=1e-11)


def test_in_the_plane_the_root_has_a_closed_form():
    """tr √M = √(tr M + 2√det M) for a matrix of two rows."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    found = frechet_distance(np.zeros(2), a, np.zeros(2), b)
    assert found == pytest.approx(np.trace(a) + np.trace(b) - 2 * root, rel=1e-13)


@pytest.mark.parametrize("num", [40, 5])
def test_a_shift_counts_by_its_square(num, rng):
    """Also with fewer examples than features, where eigenvalues are 0 and rounding makes some of them negative."""
    x = rng.normal(size=(num, 8))
    shift = rng.normal(size=8)
    assert between(moments(x), moments(x)) == pytest.approx(0, abs=1e-6)
    assert between(moments(x), moments(x + shift)) == pytest.approx(np.sum(shift**2), abs=1e-6)


def test_a_distance_is_not_negative(rng):
    """Of a set and itself, with fewer examples than features, where rounding leaves ∓1e-6."""
    for _ in range(20):
        cov = moments(rng.normal(size=(6, 40))).cov
        mean = np.zeros(40)
        assert 0 <= frechet_distance(mean, cov, mean, cov) < 1e-4


def test_how_many_examples_a_covariance_needs(rng):
    for num in (8, 9):
        x = rng.normal(size=(num, 8))
        assert enough(num, 8) == (np.linalg.matrix_rank(moments(x).cov) == 8)


def test_what_has_no_frechet_distance():
    with pytest.raises(ValueError, match="covariance of 1 examples is not defined"):
        moments(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"shapes .*\(4,\).*: give \[D\]"):
        frechet_distance(np.zeros(3), np.eye(3), np.zeros(4), np.eye(4))
    with pytest.raises(ValueError, match="NaN or infinity"):
        frechet_distance(np.zeros(3), np.eye(3), np.full(3, np.nan), np.eye(3))


# The kernel distance


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    def mean(pairs):
        return np.mean([(np.dot(a, b) / len(a) + 1) ** 3 for a, b in pairs])

    same = mean(itertools.permutations(x, 2)) + mean(itertools.permutations(y, 2))
    return same - 2 * mean(itertools.product(x, y))


@pytest.mark.usefixtures("small_blocks")
def test_kernel_distance_of_all_examples_by_a_double_loop(rng):
    x, y = rng.normal(size=(23, 4)), rng.normal(size=(17, 4)) + 0.5
    assert kernel_distance(x, y, subset_size=10).full == pytest.approx(by_definition(x, y), rel=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_subsets_of_all_examples_are_the_whole(rng):
    x, y = rng.normal(size=(2, 20, 4))
    found = kernel_distance(x, y, subsets=3, subset_size=20)
    assert found.value == pytest.approx(found.full, rel=1e-12)
    assert found.std < 1e-12


def test_kernel_distance_is_unbiased(rng):
    """The mean over many pairs of sets of one distribution is 0; that of the biased estimate would be 0.7."""
    values = [kernel_distance(*rng.normal(size=(2, 10, 4)), subsets=1, subset_size=10).full for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values)) < 0.2


def test_a_seed_gives_the_subsets(rng):
    x, y = rng.normal(size=(2, 40, 3))
    a, b, c = (kernel_distance(x, y, subsets=5, subset_size=10, seed=seed) for seed in (1, 1, 2))
    assert a == b
    assert a.value != c.value
    assert a.full == c.full


@pytest.mark.parametrize("size", [1, 11])
def test_subsets_that_a_set_does_not_have(size):
    with pytest.raises(ValueError, match=f"subset_size = {size}: must be from 2 to 10"):
        kernel_distance(np.zeros((12, 3)), np.zeros((10, 3)), subset_size=size)


# The Inception score


def test_inception_score_of_sure_and_unsure_classes():
    assert inception_score(np.tile(np.eye(5), (20, 1)), splits=4) == pytest.approx((5, 0), abs=1e-12)
    assert inception_score(np.tile([0.5, 0.3, 0.2], (20, 1)), splits=4) == pytest.approx((1, 0), abs=1e-12)


def test_inception_score_is_the_exponential_of_the_mean_divergence(rng):
    p = rng.dirichlet(np.ones(6), size=41)
    parts = [p[:13], p[13:27], p[27:]]  # ⌊41/3⌋ and ⌊82/3⌋
    scores = [np.exp(scipy.special.rel_entr(part, part.mean(axis=0)).sum(axis=1).mean()) for part in parts]
    assert inception_score(p, splits=3) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


@pytest.mark.parametrize(("num", "splits"), [(41, 3), (40, 10), (7, 7), (5, 1)])
def test_splits_begin_where_the_definition_says(num, splits):
    expected = np.repeat(np.arange(splits), np.diff([s * num // splits for s in range(splits + 1)]))
    np.testing.assert_array_equal(split_of(np.arange(num), num, splits), expected)


def test_inception_score_by_batches_in_any_order(rng):
    p = rng.dirichlet(np.ones(6), size=41)
    index = rng.permutation(41)
    hosts = [Splits.empty(3, 6), Splits.empty(3, 6)]
    for n, batch in enumerate(np.array_split(index, 5)):
        hosts[n % 2] = hosts[n % 2].add(p[batch], split_of(batch, 41, 3))
    assert hosts[1].merge(hosts[0]).score() == pytest.approx(inception_score(p, splits=3), rel=1e-12)


def test_more_splits_than_images():
    with pytest.raises(ValueError, match="3 images in 10 splits"):
        inception_score(np.full((3, 2), 0.5))


# Neighbours


def test_precision_and_recall_of_points_made_by_hand():
    """On the line, with k = 1, the balls of 0, 1 and 3 reach 1, 1 and 2; those of 4 and 7 reach 3."""
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[4.0], [7.0]])
    assert precision_recall(real, fake, k=1) == (1 / 2, 2 / 3)  # 4 is in the ball of 3; 1 and 3 are in that of 4
    assert precision_recall(fake, real, k=1) == (2 / 3, 1 / 2)  # the two change places


def test_density_and_coverage_of_points_made_by_hand():
    """The balls of 0, 1 and 3 reach 1, 1 and 2: 1.5 is in those of 1 and 3, and 5 on the surface of that of 3."""
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[1.5], [5.0]])
    assert density_coverage(real, fake, k=1) == (2 / 2, 2 / 3)
    assert density_coverage(real, fake, k=2) == (4 / (2 * 2), 1)  # 3, 2, 3: 1.5 is in all balls, 5 in the last
    assert precision_recall(real, fake, k=1).precision == 1  # whose balls have their surface


@pytest.mark.parametrize("offset", [0, 1e3])
@pytest.mark.usefixtures("small_blocks")
def test_exact_copies(offset, rng):
    """k − 1 neighbours and the example itself are within a ball, and the k-th neighbour is on its surface."""
    x = rng.normal(size=(40, 6)) + offset
    assert density_coverage(x, x[::-1].copy(), k=5) == (1, 1)
    assert precision_recall(x, x[::-1].copy()) == (1, 1)
    collapsed = np.repeat(x[:1], 40, axis=0)
    assert precision_recall(x, collapsed) == (1, 1 / 40)
    assert density_coverage(collapsed, x) == (0, 0)  # balls of no size have nothing within


def test_distant_sets(rng):
    x = rng.normal(size=(30, 4))
    assert precision_recall(x, x + 100) == (0, 0)
    assert density_coverage(x, x + 100) == (0, 0)


def on_surfaces_or_not(real, fake, k):
    """Precision, recall, density and coverage by definition: the first two with the surface of a ball."""
    across = ((real[:, None] - fake) ** 2).sum(axis=-1)
    radius = [np.sort(((x[:, None] - x) ** 2).sum(axis=-1), axis=1)[:, k] for x in (real, fake)]  # [0] is the point
    inside = across < radius[0][:, None]
    precise, recalled = (across <= radius[0][:, None]).any(axis=0), (across <= radius[1]).any(axis=1)
    return (precise.mean(), recalled.mean()), (inside.sum() / (k * len(fake)), inside.any(axis=1).mean())


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.usefixtures("small_blocks")
def test_neighbours_by_definition_in_blocks(offset, rng):
    real, fake = rng.normal(size=(33, 3)) + offset, rng.normal(size=(26, 3)) * 1.5 + 1 + offset
    expected = on_surfaces_or_not(real, fake, k=4)
    assert precision_recall(real, fake, k=4) == expected[0]
    assert density_coverage(real, fake, k=4) == expected[1]
    assert 0 < min(expected[0]) < max(expected[0]) < 1


@pytest.mark.usefixtures("small_blocks")
def test_equal_distances_count_as_equal_whatever_their_rounding(rng):
    """Whole numbers, whose squared distances are often the same, around a mean that is no float."""
    real, fake = rng.integers(0, 4, size=(60, 5)), rng.integers(1, 5, size=(53, 5))
    expected = on_surfaces_or_not(real, fake, k=3)
    assert precision_recall(real, fake, k=3) == expected[0]
    assert density_coverage(real, fake, k=3) == expected[1]


def test_points_that_are_all_the_same():
    x = np.ones((9, 2))
    assert precision_recall(x, x) == (1, 1)
    assert density_coverage(x, x) == (0, 0)


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
@pytest.mark.parametrize("k", [0, 4])
def test_a_neighbour_that_a_set_does_not_have(measure, k):
    with pytest.raises(ValueError, match=f"k = {k}: 4 examples have neighbours 1 to 3"):
        measure(np.zeros((4, 2)), np.zeros((9, 2)), k)


def test_nearest_neighbours_of_one_distribution_are_at_chance(rng):
    a, b = rng.normal(size=(1_000, 3)), rng.normal(size=(1_000, 3))
    assert abs(nearest_neighbour_accuracy(a, b) - 0.5) < 0.05


def test_nearest_neighbours_of_distant_distributions_tell_them_apart(rng):
    a = rng.normal(size=(50, 2, 2))
    assert nearest_neighbour_accuracy(a, a + 100 + rng.normal(size=a.shape)) == 1.0


def test_copies_are_worse_than_chance(rng):
    a = rng.normal(size=(50, 4))
    assert nearest_neighbour_accuracy(a + 1e-6, a) == 0.0


@pytest.mark.parametrize(
    "measure", [kernel_distance, precision_recall, density_coverage, mind, nearest_neighbour_accuracy]
)
def test_what_is_no_pair_of_sets_of_features(measure, rng):
    x, y = rng.normal(size=(2, 1_000, 3))
    measure(x, y)
    for number in (np.nan, np.inf):
        wrong = y.copy()
        wrong[7, 1] = number
        for pair in ((x, wrong), (wrong, x)):
            with pytest.raises(ValueError, match="a feature is NaN or infinite"):
                measure(*pair)
    for other in (y[:, :1], y[:0], y[0]):
        with pytest.raises(ValueError):  # noqa: PT011  by numpy, too
            measure(x, other)


def test_probabilities_that_are_none():
    with pytest.raises(ValueError, match="a probability is NaN"):
        inception_score(np.full((20, 3), np.nan))


@pytest.mark.usefixtures("small_blocks")
def test_nearest_neighbours_by_definition_in_blocks(rng):
    """Of bytes, whose equal distances are common: of those the first counts."""
    samples, real = rng.integers(4, size=(2, 30, 2, 2, 1), dtype=np.uint8)
    points = np.concatenate([samples, real]).reshape(60, -1).astype(float)
    distance = cdist(points, points) + np.diag(np.full(60, np.inf))
    expected = np.mean((distance.argmin(axis=1) >= 30) == (np.arange(60) >= 30))
    assert nearest_neighbour_accuracy(samples, real) == expected


def test_nearest_neighbours_take_no_matrix_of_all_distances(rng):
    samples, real = rng.integers(256, size=(2, 4_000, 1, 2, 1), dtype=np.uint8)
    tracemalloc.start()
    nearest_neighbour_accuracy(samples, real)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000**2 * 8 / 2


def test_both_sets_must_be_as_large():
    with pytest.raises(ValueError, match="3 samples and 4 real"):
        nearest_neighbour_accuracy(np.zeros((3, 2)), np.zeros((4, 2)))


# MIND


def test_mind_of_a_shift(rng):
    """Each direction sees (δ·u)², whose mean is ‖δ‖²/D; in one dimension there is one direction, and its mirror."""
    x = rng.normal(size=(30, 1))
    assert mind(x, x[::-1] + 2, seed=0) == pytest.approx(3 * 4, rel=1e-12)
    x, shift = rng.normal(size=(30, 5)), rng.normal(size=5)
    assert mind(x, rng.permutation(x + shift), directions=20_000, seed=0) == pytest.approx(
        3 * np.sum(shift**2), rel=0.05
    )
    assert mind(x, rng.permutation(x), seed=0) == pytest.approx(0, abs=1e-20)


def test_mind_of_a_scale():
    """Between X and cX each direction sees (c − 1)² E(x·u)²; for points on all axes that is (c − 1)²/D."""
    x = np.concatenate([np.eye(4), -np.eye(4)])
    assert mind(x, 3 * x, directions=50, seed=1) == pytest.approx(3 * 4 * (3 - 1) ** 2 / 4, rel=1e-12)


def test_mind_needs_equal_numbers():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4, 2\): take as many"):
        mind(np.zeros((3, 2)), np.zeros((4, 2)), seed=0)


# Other packages


def check(theirs):
    """Compares all measures with other packages' numbers.

    torch-fidelity computes precision and recall in float32. With too few examples some eigenvalues are 0, and the roots
    of what rounding makes of them are noise in every package.
    """
    for name, tolerance in (("enough", 1e-8), ("few", 1e-5)):
        ours = between(*map(moments, record_metrics.features(name)))
        assert ours == pytest.approx(theirs[f"pytorch-fid, {name}"]["fid"], abs=tolerance)
        assert ours == pytest.approx(theirs[f"torch-fidelity, {name}"]["frechet_inception_distance"], abs=tolerance)
    real, fake = record_metrics.features("enough")
    other = theirs["torch-fidelity"]
    found = kernel_distance(real, fake, subsets=record_metrics.SUBSETS, subset_size=record_metrics.SUBSET_SIZE)
    assert found.value == pytest.approx(other["kernel_inception_distance_mean"], abs=1e-8)
    assert found.std == pytest.approx(other["kernel_inception_distance_std"], abs=1e-8)
    score = inception_score(scipy.special.softmax(record_metrics.logits(), axis=1), record_metrics.SPLITS)
    assert score == pytest.approx((other["inception_score_mean"], other["inception_score_std"]), abs=1e-8)
    assert precision_recall(real, fake) == pytest.approx((other["precision"], other["recall"]), abs=1e-7)
    for k in (3, 5):
        other = theirs[f"prdc, k = {k}"]
        assert precision_recall(real, fake, k) == pytest.approx((other["precision"], other["recall"]), abs=1e-8)
        assert density_coverage(real, fake, k) == pytest.approx((other["density"], other["coverage"]), abs=1e-8)


def test_as_other_packages_computed_it():
    check(json.loads(record_metrics.RECORD.read_text()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the other packages
def test_as_other_packages_compute_it():
    need("torch", "torchvision", "pytorch_fid", "torch_fidelity", "prdc")
    check(record_metrics.compute())

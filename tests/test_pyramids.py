"""The sliced Wasserstein distance of patches, and multi-scale similarity, against their definitions and laws."""

import math

import numpy as np
import pytest

from wgan_jax.metrics import ms_ssim, pyramids, similarity, sliced_wasserstein
from wgan_jax.metrics.pyramids import double, halve, laplacian, level_sides
from wgan_jax.metrics.similarity import diversity

FEW = {"patches": 8, "directions": 32}


def pictures(rng, num=12, shape=(32, 32, 3)) -> np.ndarray:
    return rng.integers(0, 256, size=(num, *shape), dtype=np.uint8)


# Pyramids


@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 32, 1), (100, 100, 3)])
def test_the_levels_of_a_pyramid_add_up_to_the_image(shape, rng):
    images = pictures(rng, 2, shape).astype(np.float64)
    last = len(level_sides(*shape[:2])) - 1
    found = laplacian(images, last, last=True)
    for level in reversed(range(last)):
        found = double(found) + laplacian(images, level, last=False)
    np.testing.assert_allclose(found, images, atol=1e-11)


def test_the_filter_keeps_what_is_even():
    """Its weights have the sum 1, also at the edges, where the image is mirrored, and for either half of a doubling."""
    image = np.full((1, 16, 32, 1), 7.0)
    np.testing.assert_allclose(halve(image), np.full((1, 8, 16, 1), 7), rtol=1e-14)
    np.testing.assert_allclose(double(image), np.full((1, 32, 64, 1), 7), rtol=1e-14)


def test_the_filter_by_definition(rng):
    image = rng.normal(size=(6, 8))
    mirrored = np.pad(image, 2, "reflect")
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    expected = [[np.sum(kernel * mirrored[i : i + 5, j : j + 5]) for j in range(0, 8, 2)] for i in range(0, 6, 2)]
    np.testing.assert_allclose(halve(image[None, :, :, None])[0, :, :, 0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (16, 16, [16]),
        (31, 31, [31]),
        (32, 32, [32, 16]),
        (128, 128, [128, 64, 32, 16]),
        (100, 100, [100, 50, 25]),
        (64, 33, [33]),
        (32, 64, [32, 16]),
    ],
)
def test_levels(height, width, expected):
    assert level_sides(height, width) == expected


def test_images_without_a_level():
    with pytest.raises(ValueError, match="images of 15×32: no level is defined below 16 pixels"):
        sliced_wasserstein(np.zeros((2, 15, 32, 1), np.uint8), np.zeros((2, 15, 32, 1), np.uint8))


def test_sets_of_different_sizes():
    with pytest.raises(ValueError, match="take as many of each"):
        sliced_wasserstein(np.zeros((2, 16, 16, 1), np.uint8), np.zeros((3, 16, 16, 1), np.uint8))


# The distance


def test_a_set_is_no_distance_from_itself(rng):
    x = pictures(rng)
    found = sliced_wasserstein(x, x.copy(), **FEW)
    assert found == (0, {32: 0, 16: 0})


def test_the_distance_is_symmetric_and_the_mean_of_its_levels(rng):
    x, y = pictures(rng), pictures(rng) // 2
    found = sliced_wasserstein(x, y, **FEW)
    assert found == sliced_wasserstein(y, x, **FEW)
    assert found.value == pytest.approx(np.mean(list(found.levels.values())), rel=1e-12)
    assert min(found.levels.values()) > 0


def test_more_similar_sets_are_nearer(rng):
    """Smooth pictures and the same with more and more noise."""
    smooth = np.repeat(np.repeat(pictures(rng, 12, (4, 4, 3)), 8, axis=1), 8, axis=2)
    noise = rng.normal(size=smooth.shape)
    noisy = ((smooth + scale * noise).clip(0, 255).astype(np.uint8) for scale in (0, 10, 30, 90))
    values = [sliced_wasserstein(smooth, images, **FEW).value for images in noisy]
    assert values[0] == 0 < values[1] < values[2] < values[3]


def test_brightness_and_contrast_do_not_count(rng):
    """Each channel is normalised with its own set's mean and standard deviation."""
    x = pictures(rng) // 4
    scaled = x * np.array([1, 2, 3], np.uint8) + np.array([9, 5, 0], np.uint8)
    assert sliced_wasserstein(x, scaled, **FEW).value < 1e-3 < sliced_wasserstein(x, pictures(rng), **FEW).value


def test_grey_is_three_equal_channels(rng):
    x, y = pictures(rng, shape=(32, 32, 1)), pictures(rng, shape=(32, 32, 1)) // 3
    expected = sliced_wasserstein(np.tile(x, 3), np.tile(y, 3), **FEW)
    assert sliced_wasserstein(x, y, **FEW).value == pytest.approx(expected.value, rel=1e-6)


def test_images_of_one_colour_have_no_distance():
    x = np.full((3, 16, 16, 3), 9, np.uint8)
    assert sliced_wasserstein(x, x * 2, **FEW).value == 0


def test_batches_do_not_change_the_distance(rng, monkeypatch):
    x, y = pictures(rng), pictures(rng) // 2
    expected = sliced_wasserstein(x, y, **FEW)
    monkeypatch.setattr(pyramids, "IMAGES", 5)
    monkeypatch.setattr(pyramids, "PROJECTIONS", 7)
    found = sliced_wasserstein(x, y, **FEW)
    assert found.levels == pytest.approx(expected.levels, rel=1e-5)
    assert sliced_wasserstein(x, y, seed=1, **FEW).value != pytest.approx(expected.value, rel=1e-5)


def test_the_distance_by_definition(rng):
    """Images of 16×16 pixels whose patches are drawn as the module draws them, but cut and projected one by one."""
    sets, num, patches, directions = (pictures(rng, 3, (16, 16, 3)), pictures(rng, 3, (16, 16, 3)) // 2), 3, 4, 5
    points = []
    for images in sets:
        cut = []
        for i in range(num):
            for row, column in np.random.default_rng((0, 0, 1 + i)).integers((10, 10), size=(patches, 2)):
                cut.append(images[i, row : row + 7, column : column + 7].astype(float))
        cut = np.stack(cut)
        cut = (cut - cut.mean(axis=(0, 1, 2))) / cut.std(axis=(0, 1, 2))
        points.append(cut.transpose(0, 3, 1, 2).reshape(len(cut), -1))
    distances = []
    for direction in np.random.default_rng((0, 0)).normal(size=(directions, 147)):
        u = direction / math.sqrt(sum(direction**2))
        distances.append(np.mean(np.abs(np.sort(points[0] @ u) - np.sort(points[1] @ u))))
    found = sliced_wasserstein(*sets, seed=0, patches=patches, directions=directions)
    assert found.levels == {16: pytest.approx(1_000 * np.mean(distances), rel=1e-5)}


# MS-SSIM


def reference(a: np.ndarray, b: np.ndarray) -> float:
    """Multi-scale similarity of two grey images of a side that halves five times, window by window."""
    c1, c2 = 2.55**2, 7.65**2
    result = 1.0
    for weight, is_last in zip((0.0448, 0.2856, 0.3001, 0.2363, 0.1333), 4 * [False] + [True], strict=True):
        size = min(11, len(a))
        middle = (size - 1) / 2
        deviation = 1.5 * size / 11
        window = np.array(
            [
                [math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * deviation**2)) for j in range(size)]
                for i in range(size)
            ]
        )
        window /= window.sum()
        similarities, contrasts = [], []
        for i in range(len(a) - size + 1):
            for j in range(len(a) - size + 1):
                x, y = a[i : i + size, j : j + size], b[i : i + size, j : j + size]
                mean_x, mean_y = np.sum(window * x), np.sum(window * y)
                covariance = np.sum(window * (x - mean_x) * (y - mean_y))
                variances = np.sum(window * (x - mean_x) ** 2) + np.sum(window * (y - mean_y) ** 2)
                contrasts.append((2 * covariance + c2) / (variances + c2))
                luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
                similarities.append(luminance * contrasts[-1])
        result *= max(0, np.mean(similarities if is_last else contrasts)) ** weight
        a, b = (x.reshape(len(x) // 2, 2, len(x) // 2, 2).mean(axis=(1, 3)) for x in (a, b))
    return result


def test_similarity_by_definition(rng, monkeypatch):
    monkeypatch.setattr(similarity, "PAIRS", 2)
    a = pictures(rng, 3, (32, 32, 1))
    b = (0.7 * a + 0.3 * pictures(rng, 3, (32, 32, 1))).astype(np.uint8)
    expected = [reference(*(x[i, :, :, 0].astype(float) for x in (a, b))) for i in range(3)]
    np.testing.assert_allclose(ms_ssim(a, b), expected, rtol=1e-9)
    assert 0.2 < min(expected) < max(expected) < 0.99


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (9, 14, 1), (176, 177, 1)])
def test_an_image_is_most_similar_to_itself(shape, rng):
    a = pictures(rng, 2, shape)
    np.testing.assert_allclose(ms_ssim(a, a), [1, 1], rtol=1e-12)
    found = ms_ssim(a, 255 - a)
    assert np.all((found >= 0) & (found < 0.1))  # a negative's contrasts are negative and count as 0


@pytest.mark.parametrize("shape", [(32, 32, 3), (9, 14, 1)])
def test_brightness_counts_at_the_last_scale(shape):
    """The contrasts of images of one colour are equal at every scale, also at the repeated edge of an odd side."""
    a, b = np.full((1, *shape), 100.0), np.full((1, *shape), 150.0)
    luminance = (2 * 100 * 150 + 2.55**2) / (100**2 + 150**2 + 2.55**2)
    assert ms_ssim(a, b) == pytest.approx(luminance**0.1333, rel=1e-9)


def test_similarity_falls_with_noise(rng):
    a = np.repeat(np.repeat(pictures(rng, 1, (8, 8, 1)), 8, axis=1), 8, axis=2)
    noise = rng.normal(size=a.shape)
    found = [ms_ssim(a, (a + scale * noise).clip(0, 255))[0] for scale in (0, 10, 30, 90)]
    assert found == sorted(found, reverse=True)
    assert ms_ssim(a, a[:, ::-1])[0] == pytest.approx(ms_ssim(a[:, ::-1], a)[0], rel=1e-12)


def test_diversity_is_over_pairs_of_different_images(rng):
    """Of two images there is one pair, and of copies of one image every pair is the same."""
    a = pictures(rng, 2)
    assert diversity(a, 5, seed=0) == pytest.approx(ms_ssim(a[:1], a[1:])[0], rel=1e-12)
    assert diversity(np.repeat(a[:1], 4, axis=0), 5, seed=0) == pytest.approx(1, rel=1e-12)


def test_every_pair_is_drawn_as_often(rng, monkeypatch):
    """With images 0 … 3, and the pair's numbers in place of its similarity."""
    drawn = []
    monkeypatch.setattr(similarity, "ms_ssim", lambda a, b: drawn.extend(zip(a, b, strict=True)) or np.zeros(len(a)))
    diversity(np.arange(4), 6_000, seed=0)
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(pairs) == 12
    assert counts.min() > 400


def test_pairs_that_do_not_exist():
    with pytest.raises(ValueError, match="a pair has one size"):
        ms_ssim(np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 9, 1)))
    with pytest.raises(ValueError, match="1 images and 3 pairs"):
        diversity(np.zeros((1, 8, 8, 1)), 3, seed=0)

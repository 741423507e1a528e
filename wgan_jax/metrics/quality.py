"""Measures of samples that need no pretrained network."""

import numpy as np
from scipy.spatial.distance import cdist


def nearest_neighbour_accuracy(samples: np.ndarray, real: np.ndarray) -> float:
    """Returns the leave-one-out accuracy of a 1-nearest-neighbour classifier that tells samples from real examples.

    It is 0.5 if the two are indistinguishable, near 1 if samples stand apart, and near 0 if they copy the real ones
    (Lopez-Paz and Oquab 2017, arXiv 1610.06545).

    Args:
      samples: `[N, ...]`.
      real: `[N, ...]`, the same number.

    Raises:
      ValueError: if the numbers differ.
    """
    if len(samples) != len(real):
        raise ValueError(f"{len(samples)} samples and {len(real)} real examples: take as many of each")
    points = np.concatenate([samples, real]).reshape(2 * len(real), -1).astype(np.float64)
    distance = cdist(points, points)
    np.fill_diagonal(distance, np.inf)
    is_real = np.arange(len(points)) >= len(samples)
    return float(np.mean(is_real[distance.argmin(axis=1)] == is_real))


def class_counts(samples: np.ndarray, images: np.ndarray, labels: np.ndarray, num_classes: int = 10) -> np.ndarray:
    """Counts the samples that a support-vector machine, trained on real images, puts into each class: `[num_classes]`.

    Args:
      samples: `[N, ...]`.
      images: `[M, ...]`, real, in the same range.
      labels: `[M]` in `[0, num_classes)`.
      num_classes: how many classes there are.
    """
    return np.bincount(classify(samples, images, labels), minlength=num_classes)


def classify(samples: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the classes `[N]` into which a support-vector machine, trained on real images, puts samples.

    Args:
      samples: `[N, ...]`.
      images: `[M, ...]`, real, in the same range.
      labels: `[M]`.
    """
    from sklearn.svm import SVC

    machine = SVC(gamma="scale").fit(images.reshape(len(images), -1), labels)
    return machine.predict(samples.reshape(len(samples), -1))

"""The classes of samples, found without a pretrained network."""

import numpy as np


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

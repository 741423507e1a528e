"""The Inception score of class probabilities (Salimans et al. 2016, arXiv 1606.03498)."""

from typing import NamedTuple, Self

import numpy as np
from scipy.special import xlogy


class InceptionScore(NamedTuple):
    """The score: from 1, if no image tells anything of its class, to the number of classes."""

    mean: float
    """Mean over the splits."""
    std: float
    """Standard deviation of the splits."""


class Splits(NamedTuple):
    """The sums from which the score is computed, for each of S splits, in float64. Batches come in any order."""

    num: np.ndarray
    """Number of images, `[S]`."""
    sum: np.ndarray
    """Σp, `[S, C]`."""
    log: np.ndarray
    """ΣΣ p log p over images and classes, `[S]`."""

    @classmethod
    def empty(cls, splits: int, classes: int) -> Self:
        """Returns the sums over no images."""
        return cls(np.zeros(splits), np.zeros((splits, classes)), np.zeros(splits))

    def add(self, probabilities: np.ndarray, split: np.ndarray) -> Self:
        """Returns the sums with further images: probabilities `[B, C]`, and the split `[B]` of each image."""
        p = np.asarray(probabilities, np.float64)
        member = np.equal.outer(np.arange(len(self.num)), split).astype(np.float64)
        return self.merge(
            self._replace(num=member.sum(axis=1), sum=member @ p, log=member @ xlogy(p, p).sum(axis=1)),
        )

    def merge(self, other: Self) -> Self:
        """Returns the sums over the images of both."""
        return self._replace(num=self.num + other.num, sum=self.sum + other.sum, log=self.log + other.log)

    def score(self) -> InceptionScore:
        """Returns the score of all images.

        Raises:
          ValueError: if a split has no image, or a probability is NaN or infinite.
        """
        if not self.num.all():
            raise ValueError(f"{self.num.sum():.0f} images in {len(self.num)} splits: give an image or more to each")
        if not np.isfinite(self.sum).all():
            raise ValueError("a probability is NaN or infinite")
        marginal = self.sum / self.num[:, None]
        scores = np.exp(self.log / self.num - xlogy(marginal, marginal).sum(axis=1))
        return InceptionScore(float(scores.mean()), float(scores.std()))


def split_of(index: np.ndarray, num: int, splits: int) -> np.ndarray:
    """Returns the split of each image: split s has the images from ⌊s·num/splits⌋ up to the next one's first.

    Args:
      index: `[B]`, place of an image among all.
      num: number of all images.
      splits: number of splits.
    """
    return ((np.asarray(index) + 1) * splits - 1) // num


def inception_score(probabilities: np.ndarray, splits: int = 10) -> InceptionScore:
    """Returns exp(mean KL(p(c|x) ‖ p(c))), where p(c) is the mean of a split, as mean and deviation of the splits.

    Args:
      probabilities: `[N, C]`, with a sum of 1 over the classes.
      splits: number of equal parts, consecutive, of which each has its score.

    Raises:
      ValueError: if there are fewer images than splits, or a probability is NaN or infinite.
    """
    num, classes = probabilities.shape
    return Splits.empty(splits, classes).add(probabilities, split_of(np.arange(num), num, splits)).score()

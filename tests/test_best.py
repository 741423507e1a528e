"""Which metrics the best checkpoint may be best by, and in which direction."""

import pytest

from wgan_jax import UserError
from wgan_jax.config import check
from wgan_jax.metrics.evaluators import EVALUATORS, Evaluator, check_rows
from wgan_jax.run.best import check_best, score

from .conftest import tiny_config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"report__best": "wasserstein_exact"}, "no such metric"),
        ({"report__best": "held_out"}, "did you mean held_out_estimate"),
        ({"report__best": "clipped_fraction"}, "no such metric"),
        ({"report__best": "held_out_estimate", "report__checkpoint_every": 6}, "known every 4 iterations only"),
        ({"report__best": "fd_lite0"}, "no such metric"),
        (
            {"report__best": "recall_lite0", "report__metrics": ("precision_recall_lite0",)},
            "known every 1000 iterations only; use a multiple of 1000",
        ),
        (
            {
                "report__best": "gradient_penalty",
                "report__checkpoint_every": 3,
                "n_critic": 1,
                "constraint__every": 2,
            },
            "'gradient_penalty' is 0 at some checkpoints; use 1, or a divisor of 3",
        ),
    ],
)
def test_a_metric_that_checkpoints_do_not_have(changes, words):
    with pytest.raises(UserError) as error:
        check_best(tiny_config(**changes), EVALUATORS)
    assert words in str(error.value)


def test_every_metric_that_checkpoints_have():
    """Those of the step, of its constraint, of the reports, of the config's metrics, and of a row of one's own."""
    mine = Evaluator("mine", lambda config: 4, False, lambda context: None, names=lambda config: ("twice", "half"))
    config = tiny_config(report__metrics=("ms_ssim", "precision_recall_lite0"), report__metrics_every=4)
    for name in ("critic_loss", "gradient_penalty", "held_out_estimate", "ms_ssim", "precision_lite0", "half"):
        config.report.best = name
        check_best(config, (*EVALUATORS, mine))


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("critic_loss", -1.0, 2.0),
        ("held_out_estimate", -0.5, 1.0),
        ("critic_class_accuracy", 0.9, 0.8),
        ("fid", 3.0, 4.0),
        ("recall_lite0", 0.5, 0.4),
        ("nearest_neighbour_accuracy", 0.45, 0.6),
    ],
)
def test_a_better_value_has_the_lower_score(metric, better, worse):
    assert score(metric, better) < score(metric, worse)


def test_a_config_names_metrics_that_exist():
    with pytest.raises(UserError, match=r"config.report.metrics: there is no metric 'fd_lite'; did you mean fd_lite0"):
        check_rows(EVALUATORS, tiny_config(report__metrics=("fd_lite",)))
    with pytest.raises(UserError, match=r"config.report.metrics: there is no metric 'all'; known: fid, .*accuracy$"):
        check_rows(EVALUATORS, tiny_config(report__metrics=("all",)))
    for wrong in ((1,), ("ms_ssim,fd_lite0",)):
        with pytest.raises(UserError, match=r'must be names of metrics, such as \("ms_ssim", "fd_lite0"\)$'):
            check(tiny_config(report__metrics=wrong))

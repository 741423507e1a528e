"""Which checkpoint is best: the metrics that `config.report.best` may name, and in which direction each is better."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from wgan_jax.config.tables import CONDITIONINGS, CONSTRAINTS, parts
from wgan_jax.errors import UserError, nearest
from wgan_jax.method.games import GAMES
from wgan_jax.metrics.evaluators import Evaluator
from wgan_jax.metrics.scores import METRICS

BETTER = {"critic_class_accuracy": "higher"} | {
    number: row.better for row in METRICS.values() for number in row.numbers
}
"""`lower`, `higher`, or the best value of a metric, by its name. Estimates are best at 0, and other metrics lower."""


def score(metric: str, number: float) -> float:
    """Converts the value of a metric to a score: the lower the score, the better the value."""
    better = BETTER.get(metric, "0" if metric.endswith("estimate") else "lower")
    if better in ("lower", "higher"):
        return number if better == "lower" else -number
    return abs(number - float(better))


def check_best(config: ConfigDict, evaluators: Iterable[Evaluator]) -> None:
    """Checks that `config.report.best` names a metric that every checkpoint of the run has.

    Raises:
      UserError: if it does not.
    """
    best, c = config.report.best, config
    if not best:
        return
    known = ["critic_loss", "generator_loss", "critic_grad_norm", "generator_grad_norm", GAMES[c.game].estimate_name]
    rows = [CONSTRAINTS[name] for name in parts(c.constraint.kind)]
    known += [metric for row in rows for metric in row.metrics]
    known += CONDITIONINGS[c.conditional.kind].metrics
    every = {name: row.every(c) for row in evaluators for name in row.numbers(c) if row.every(c)}
    if best not in known and best not in every:
        raise UserError(f"config.report.best = {best!r}: no such metric; {nearest(best, [*every, *known])}")
    lazy = [metric for row in rows if "every" in row.settings for metric in row.metrics]
    if best in lazy and c.report.checkpoint_every * c.n_critic % c.constraint.every:
        raise UserError(
            f"config.constraint.every = {c.constraint.every}: config.report.best = {best!r} is 0 at some "
            f"checkpoints; use 1, or a divisor of {c.report.checkpoint_every * c.n_critic}, which is "
            "config.report.checkpoint_every times config.n_critic"
        )
    if best in every and c.report.checkpoint_every % every[best]:
        raise UserError(
            f"config.report.checkpoint_every = {c.report.checkpoint_every}: config.report.best = {best!r} is known "
            f"every {every[best]} iterations only; use a multiple of {every[best]}"
        )

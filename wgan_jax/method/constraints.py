"""Ways to keep the critic Lipschitz: a further term of its loss, a change of its weights, or a projection of them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import chex
import jax
import jax.numpy as jnp

from wgan_jax.method import draws, lipschitz, spectral
from wgan_jax.method.draws import CriticPass, Keys
from wgan_jax.method.games import Metrics

Params: TypeAlias = chex.ArrayTree
State: TypeAlias = chex.ArrayTree


class CriticFn(Protocol):
    """The critic of one update, with its constraint on its weights, as a loss calls it."""

    def __call__(self, x: jax.Array, /) -> jax.Array:
        """Returns the scores `[B]` of points `[B, ...]`."""
        ...

    def with_features(self, x: jax.Array, critic_pass: CriticPass, /) -> tuple[jax.Array, jax.Array]:
        """Returns the scores `[B]` and the last hidden layer `[B, D]` of points, with the dropout of another pass.

        Raises:
          ValueError: if the critic sows no `features`.
        """
        ...


def no_state(params: Params, key: chex.PRNGKey) -> State:
    """Returns the state of a constraint that has none."""
    del params, key
    return ()


def same_weights(params: Params, state: State) -> tuple[Params, State]:
    """Returns the parameters and the state as they are."""
    return params, state


def no_loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, keys: Keys) -> tuple[jax.Array, Metrics]:
    """Returns a term of 0 and no metrics."""
    del critic_fn, real, fake, keys
    return jnp.zeros(()), {}


def no_projection(params: Params) -> tuple[Params, Metrics]:
    """Returns the parameters as they are."""
    return params, {}


class Constraint(NamedTuple):
    """Five pure functions, of which a constraint has those that it needs. `chain` joins several constraints.

    Two numbers say what the term costs, for the count of a step's arithmetic.
    """

    init: Callable[[Params, jax.Array], State] = no_state
    """`(params, key) -> state`, once for a run."""
    weights: Callable[[Params, State], tuple[Params, State]] = same_weights
    """`(params, state) -> (weights, state)`: what the critic computes with in every pass, differentiable by `params`.

    The new state is kept once for each critic update. In all other passes, such as the generator's, it is dropped.
    """
    loss: Callable[[CriticFn, jax.Array, jax.Array, Keys], tuple[jax.Array, Metrics]] = no_loss
    """`(critic_fn, real [B, ...], fake [B, ...], keys) -> (term of the critic's loss [], metrics)`.

    `critic_fn` maps `[B, ...]` to scores `[B]`; see `CriticFn`. What the term draws, it draws from `keys`.
    """
    before: Callable[[Params], tuple[Params, Metrics]] = no_projection
    """`params -> (params, metrics)`, before the critic's gradient is taken."""
    project: Callable[[Params], tuple[Params, Metrics]] = no_projection
    """`params -> (params, metrics)`, after the optimizer's update."""
    gradients: float = 0.0
    """Number of points, for each real example, where the term takes the critic's gradient by its input."""
    passes: float = 0.0
    """Number of further passes of the critic, for each real example, that the term takes."""


def chain(*constraints: Constraint) -> Constraint:
    """Returns several constraints as one: weights and projections in this order, and the sum of the terms."""
    if len(constraints) == 1:
        return constraints[0]

    def init(params: Params, key: chex.PRNGKey) -> State:
        keys = jax.random.split(key, len(constraints))
        return tuple(c.init(params, key) for c, key in zip(constraints, keys, strict=True))

    def weights(params: Params, state: State) -> tuple[Params, State]:
        states = []
        for constraint, old in zip(constraints, state, strict=True):
            params, new = constraint.weights(params, old)
            states.append(new)
        return params, tuple(states)

    def loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, keys: Keys) -> tuple[jax.Array, Metrics]:
        total, metrics = no_loss(critic_fn, real, fake, keys)
        for constraint in constraints:
            term, more = constraint.loss(critic_fn, real, fake, keys)
            total, metrics = total + term, metrics | more
        return total, metrics

    def in_turn(projections: list[Callable[[Params], tuple[Params, Metrics]]]) -> Callable[[Params], Any]:
        def project(params: Params) -> tuple[Params, Metrics]:
            metrics: Metrics = {}
            for one in projections:
                params, more = one(params)
                metrics |= more
            return params, metrics

        return project

    before, project = in_turn([c.before for c in constraints]), in_turn([c.project for c in constraints])
    gradients, passes = sum(c.gradients for c in constraints), sum(c.passes for c in constraints)
    return Constraint(init, weights, loss, before, project, gradients, passes)


def lazy(constraint: Constraint, every: int, n_critic: int) -> Constraint:
    """Returns a constraint whose term is there in every k-th critic update alone, k times as heavy.

    This is lazy regularization (arXiv 1912.04958, appendix B). The other updates do not compute the term, and it and
    its metrics are 0 in them. If the critic updates of a run are counted from 1, the term is in those whose number is a
    multiple of k. An iteration reports its last update, so it reports the term if k divides `n_critic · (step + 1)`.

    StyleGAN2's code takes a step of its own for the term, and changes Adam's settings for the further steps. Here the
    term is a part of the loss of one step, and Adam's settings stay.

    Args:
      constraint: one with a loss.
      every: k, at least 1.
      n_critic: critic updates in an iteration. Iterations of a warm-up, which have more, are numbered as if they had
        not.

    Raises:
      ValueError: if `every` is not positive.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")

    def loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, keys: Keys) -> tuple[jax.Array, Metrics]:
        def heavy() -> tuple[jax.Array, Metrics]:
            term, metrics = constraint.loss(critic_fn, real, fake, keys)
            return every * term, metrics

        absent = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(heavy))
        number = keys.step % every * n_critic + keys.update + 1  # of the run, up to a multiple of k
        return jax.lax.cond(jnp.asarray(number % every == 0), heavy, lambda: absent)

    return constraint._replace(loss=loss, gradients=constraint.gradients / every, passes=constraint.passes / every)


def gradient_penalty(weight: float = 10.0, *, target: float = 1.0, one_sided: bool = False) -> Constraint:
    """Returns `λ · mean((‖∇ critic(x̂)‖₂ − target)²)` as a term of the critic's loss (arXiv 1704.00028 eq. 3).

    Metrics: `gradient_penalty` (without λ) and `gradient_norm`, the mean over the interpolates.
    """
    penalty = functools.partial(lipschitz.penalty, target=target, one_sided=one_sided)
    return _of_norms("gradient_penalty", weight, _interpolates, penalty)


def lipschitz_penalty(weight: float = 10.0, *, target: float = 1.0) -> Constraint:
    """Returns WGAN-LP's term, `λ · mean(max(0, ‖∇ critic(x̂)‖₂ − target)²)` (arXiv 1709.08894).

    It is the one-sided gradient penalty. Metrics: `lipschitz_penalty` (without λ) and `gradient_norm`.
    """
    penalty = functools.partial(lipschitz.penalty, target=target, one_sided=True)
    return _of_norms("lipschitz_penalty", weight, _interpolates, penalty)


def dragan(weight: float = 10.0, *, target: float = 1.0, noise: float = 0.25) -> Constraint:
    """Returns DRAGAN's term, `λ · mean((‖∇ critic(x̂)‖₂ − target)²)` at points around real examples (arXiv 1705.07215).

    The points are `x̂ = real + α · noise · u`, as in the paper's code: α ~ U[0, 1) for each example and u ~ U[0, 1) for
    each number, so the noise is never negative. There, `noise` is half the standard deviation of the batch. A number
    that is the same for all batches, such as half of that of the data, is the same in every part of a batch too.
    Metrics: `dragan_penalty` (without λ) and `gradient_norm`, the mean over the points.
    """

    def around(real: jax.Array, fake: jax.Array, keys: Keys) -> jax.Array:
        del fake
        return real + noise * draws.perturbation(*keys, real.shape[1:])

    return _of_norms("dragan_penalty", weight, around, functools.partial(lipschitz.penalty, target=target))


def wasserstein_divergence(weight: float = 2.0, power: float = 6.0) -> Constraint:
    """Returns WGAN-div's term, `k · mean(‖∇ critic(x̂)‖₂^p)` (arXiv 1712.01026), at interpolates x̂.

    The critic then estimates a divergence that needs no Lipschitz constant, and not the Wasserstein distance.
    Metrics: `divergence_penalty` (without k) and `gradient_norm`.

    Args:
      weight: k.
      power: p, above 1.
    """
    return _of_norms("divergence_penalty", weight, _interpolates, lambda norms: jnp.mean(norms**power))


Points = Callable[[jax.Array, jax.Array, Keys], jax.Array]


def _of_norms(name: str, weight: float, points: Points, penalty: Callable[[jax.Array], jax.Array]) -> Constraint:
    """Returns a constraint by the norms of the critic's gradient at some points."""

    def loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, keys: Keys) -> tuple[jax.Array, Metrics]:
        norms = lipschitz.gradient_norms(critic_fn, points(real, fake, keys))
        value = penalty(norms)
        return weight * value, {name: value, "gradient_norm": jnp.mean(norms)}

    return Constraint(loss=loss, gradients=1)


def _interpolates(real: jax.Array, fake: jax.Array, keys: Keys) -> jax.Array:
    return lipschitz.interpolate(real, fake, draws.epsilon(*keys))


FEATURES = 0.1
"""Weight of the hidden layer in the consistency term, in the paper and its code."""


def consistency(weight: float = 2.0, margin: float = 0.0) -> Constraint:
    """Returns CT-GAN's term, `mean(max(0, λ₂ d − M'))`, how far dropout moves a score (arXiv 1803.01541 eq. 4–5).

    For each real example, `d = (D' − D'')² + 0.1 · mean((h' − h'')²)`, where D are scores and h the critic's last
    hidden layers in two passes with different dropout. The first has that of the game's own pass. Without dropout the
    term is 0.
    Metrics: `consistency_term`, with λ₂, since M' is measured against it.

    Args:
      weight: λ₂.
      margin: M', which each example may cost for nothing.
    """

    def loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, keys: Keys) -> tuple[jax.Array, Metrics]:
        del fake, keys
        (first, features), (second, other) = (
            critic_fn.with_features(real, p) for p in (CriticPass.REAL, CriticPass.AGAIN)
        )
        apart = jnp.square(first - second) + FEATURES * jnp.mean(jnp.square(features - other), axis=-1)
        term = jnp.mean(jnp.maximum(weight * apart - margin, 0.0))
        return term, {"consistency_term": term}

    return Constraint(loss=loss, passes=2)


def r1(gamma: float = 10.0) -> Constraint:
    """Returns `γ/2 · mean(‖∇ critic(real)‖²)` as a term of the critic's loss (arXiv 1801.04406 eq. 9).

    The paper's code leaves out the ½, so its 10 is a γ of 20 here. StyleGAN's γ is this one.
    Metrics: `r1_penalty`, the term without γ.
    """
    return _zero_centred("r1_penalty", gamma, lambda real, fake: real)


def r2(gamma: float = 10.0) -> Constraint:
    """Returns `γ/2 · mean(‖∇ critic(fake)‖²)` as a term of the critic's loss (arXiv 1801.04406 eq. 10).

    Metrics: `r2_penalty`, the term without γ.
    """
    return _zero_centred("r2_penalty", gamma, lambda real, fake: fake)


def _zero_centred(name: str, gamma: float, where: Callable[[jax.Array, jax.Array], jax.Array]) -> Constraint:
    def loss(critic_fn: CriticFn, real: jax.Array, fake: jax.Array, keys: Keys) -> tuple[jax.Array, Metrics]:
        del keys
        penalty = jnp.mean(lipschitz.gradient_squares(critic_fn, where(real, fake))) / 2
        return gamma * penalty, {name: penalty}

    return Constraint(loss=loss, gradients=1)


def spectral_norm() -> Constraint:
    """Returns spectral normalization of the critic's kernels (arXiv 1802.05957), by one power step for each update.

    The state is the u of every kernel. All passes of an update use the same one, on every device and in every
    microbatch. The passes between updates, such as the generator's and those of an evaluation, take one step from it,
    on the weights as they are, and drop it.
    """
    return Constraint(init=spectral.init, weights=spectral.normalize)


def clip(bound: float = 0.01, *, order: str = "after") -> Constraint:
    """Returns weight clipping (arXiv 1701.07875), after each update as in the paper, or before it.

    WGAN's first code clips before the update, so its generator sees an unclipped critic.
    Metrics: `clipped_fraction`, the share of the critic's parameters at the bound.

    Raises:
      ValueError: if `order` is neither `after` nor `before`.
    """
    if order not in ("after", "before"):
        raise ValueError(f"order must be 'after' or 'before', not {order!r}")

    def project(params: Params) -> tuple[Params, Metrics]:
        return (
            lipschitz.clip_weights(params, bound),
            {"clipped_fraction": lipschitz.clipped_fraction(params, bound)},
        )

    return Constraint(project=project) if order == "after" else Constraint(before=project)

"""One generator iteration as one pure function (arXiv 1704.00028, Algorithm 1; arXiv 1701.07875, Algorithm 1)."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from wgan_jax import draws, preprocess
from wgan_jax.gan import Gan
from wgan_jax.state import Player, TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Placement(NamedTuple):
    """Where the examples of the global batch are. As it stands, the step has all of them in hand."""

    numbers: Callable[[int], jax.Array] = jnp.arange
    """Of n examples in hand, their numbers in the global batch: `[n]` int32."""
    mean: Callable[[Any], Any] = lambda tree: tree
    """From means over the examples in hand, the means over the global batch: any tree of floats."""


IN_HAND = Placement()


def make_train_step(
    gan: Gan, *, unroll: bool = False, microbatches: int = 1, placement: Placement = IN_HAND
) -> TrainStep:
    """A pure `train_step(state, batch) -> (state, metrics)`, to be compiled with `jax.jit`.

    It does one critic update for each row of the batch's first axis, each on its own real examples, latents and
    ε, then one generator update on latents of its own. `jax.jit(train_step, donate_argnums=0)` saves the memory
    of a second state, and gives the first one away.

    The batch is `{"image": [n_critic, B, *image_shape]}`: float32, for images in [−1, 1], or images as uint8; see
    `prepare`.

    Metrics, float32 scalars; those of the critic are of the last critic update, before it was applied:
      critic_loss: what the critic minimises, with the weighted penalty.
      generator_loss: what the generator minimises.
      wasserstein_estimate: `mean(critic(real)) − mean(critic(fake))`; another game has its own estimate instead.
      gradient_penalty, gradient_norm: of the interpolates, without λ; the norm is their mean.
      clipped_fraction: the share of the critic's parameters at the clipping bound.
      critic_grad_norm, generator_grad_norm: Euclidean norms over all parameters.

    `unroll` writes the critic's updates out one after another instead of in a loop: the same numbers, and
    `n_critic` times the compilation.

    `microbatches` cuts every batch into so many parts, and adds up their gradients one part after another: the same
    numbers, up to the order of a sum, in less memory. Batch normalization would take its moments of a part alone, so
    it is refused.

    `placement` is for `wgan_jax.parallel`, where devices share a batch.

    Raises (when traced):
      ValueError: if the batch has another shape than the GAN's, or is of other integers than uint8, or cannot be cut
        into microbatches.
    """
    critic_optimizer = optax.with_extra_args_support(gan.critic_optimizer)
    generator_optimizer = optax.with_extra_args_support(gan.generator_optimizer)

    def critic_loss(
        params: Any, critic: Player, real: jax.Array, fake: jax.Array, epsilon: jax.Array
    ) -> tuple[jax.Array, tuple[Metrics, dict[str, Any]]]:
        variables = critic.variables | {"params": params}
        if "batch_stats" in variables:  # moments of real and of fake examples apart, as in WGAN's code
            real_scores, variables = apply(gan.critic, variables, real)
            fake_scores, variables = apply(gan.critic, variables, fake)
        else:  # one pass over both is faster
            scores, variables = apply(gan.critic, variables, interleave(real, fake))
            real_scores, fake_scores = scores[::2], scores[1::2]
        constraint, metrics = gan.constraint.loss(lambda x: apply(gan.critic, variables, x)[0], real, fake, epsilon)
        loss = gan.game.critic_loss(real_scores, fake_scores) + constraint
        estimate = gan.game.estimate(real_scores, fake_scores)
        metrics |= {"critic_loss": loss, gan.game.estimate_name: estimate}
        return loss, (metrics, variables)

    def generator_loss(
        params: Any, generator: Player, critic: Player, latents: jax.Array
    ) -> tuple[jax.Array, dict[str, Any]]:
        fake, variables = apply(gan.generator, generator.variables | {"params": params}, latents)
        scores, _ = apply(gan.critic, critic.variables, fake)
        return gan.game.generator_loss(scores), variables

    def numbers(size: int, part: draws.Integer) -> jax.Array:
        return placement.numbers(size // microbatches) * microbatches + part

    def update_critic(state: TrainState, critic: Player, batch: Batch, update: jax.Array) -> tuple[Player, Metrics]:
        params, before = gan.constraint.before(critic.params)

        def gradient_of(part: draws.Integer) -> tuple[Any, Metrics, dict[str, Any]]:
            rows = take(batch, part, microbatches)
            index = numbers(batch["image"].shape[0], part)
            real = prepare(gan, state.key, state.step, update, index, rows["image"])
            latents = draws.critic_latents(state.key, state.step, update, index, gan.latent_dim)
            epsilon = draws.epsilon(state.key, state.step, update, index)
            fake, _ = apply(gan.generator, state.generator.variables, latents)
            (_, (metrics, variables)), gradient = jax.value_and_grad(critic_loss, has_aux=True)(
                params, critic, real, fake, epsilon
            )
            return gradient, metrics, statistics(variables)

        gradient, metrics, variables = placement.mean(mean_of(gradient_of, microbatches, unroll))
        updates, opt_state = critic_optimizer.update(gradient, critic.opt_state, params, step=state.step)
        params, after = gan.constraint.after(optax.apply_updates(params, updates))
        metrics |= before | after | {"critic_grad_norm": optax.tree.norm(gradient)}
        return Player(variables | {"params": params}, opt_state), metrics

    def update_generator(state: TrainState, critic: Player, size: int) -> tuple[Player, Metrics]:
        generator = state.generator

        def gradient_of(part: draws.Integer) -> tuple[Any, Metrics, dict[str, Any]]:
            latents = draws.generator_latents(state.key, state.step, numbers(size, part), gan.latent_dim)
            (loss, variables), gradient = jax.value_and_grad(generator_loss, has_aux=True)(
                generator.params, generator, critic, latents
            )
            return gradient, {"generator_loss": loss}, statistics(variables)

        gradient, metrics, variables = placement.mean(mean_of(gradient_of, microbatches, unroll))
        updates, opt_state = generator_optimizer.update(
            gradient, generator.opt_state, generator.params, step=state.step
        )
        params = optax.apply_updates(generator.params, updates)
        metrics |= {"generator_grad_norm": optax.tree.norm(gradient)}
        return Player(variables | {"params": params}, opt_state), metrics

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        real = batch["image"]
        if real.shape[2:] != gan.image_shape:
            raise ValueError(
                f"batch['image'] has shape {real.shape}, but must be [n_critic, B, "
                f"{', '.join(map(str, gan.image_shape))}]"
            )
        n_critic, batch_size = real.shape[:2]
        check_microbatches(state, batch_size, microbatches)

        critic = state.critic
        metrics: Metrics = {}
        if unroll:
            for update in range(n_critic):
                critic, metrics = update_critic(
                    state, critic, jax.tree.map(operator.itemgetter(update), batch), jnp.int32(update)
                )
        else:
            critic, metrics = jax.lax.scan(
                lambda critic, row: update_critic(state, critic, *row), critic, (batch, jnp.arange(n_critic))
            )
            metrics = jax.tree.map(lambda values: values[-1], metrics)

        generator, generator_metrics = update_generator(state, critic, batch_size * gan.generator_batch_multiple)
        state = TrainState(
            step=state.step + 1,
            key=state.key,
            generator=generator,
            critic=critic,
            ema=optax.incremental_update(generator.variables, state.ema, 1 - ema_decay(gan.ema_decay, state.step)),
        )
        return state, metrics | generator_metrics

    return train_step


def batch_shapes(gan: Gan, n_critic: int, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a batch of floats."""
    return {"image": jax.ShapeDtypeStruct((n_critic, batch_size, *gan.image_shape), jnp.float32)}


def prepare(
    gan: Gan, key: jax.Array, step: draws.Integer, update: draws.Integer, index: jax.Array, real: jax.Array
) -> jax.Array:
    """The real examples of a critic update `[B, *image_shape]` as the critic sees them, float32.

    Bytes are brought to [−1, 1], dequantised and flipped as the GAN has it; floats stay as they are. `index [B]` has
    the examples' numbers in the global batch.
    """
    if real.dtype != jnp.uint8:
        return preprocess.to_range(real)
    if gan.dequantise:
        real = preprocess.dequantise(real, draws.dequantisation(key, step, update, index, real.shape[1:]))
    if gan.flip:
        real = preprocess.flip(real, draws.flips(key, step, update, index))
    return preprocess.to_range(real)


def ema_decay(decay: float, step: jax.Array) -> jax.Array:
    """The average's decay at a step: `decay`, or less while the average would still hold the initial weights."""
    return jnp.minimum(decay, (1 + step) / (10 + step))


def apply(module: nn.Module, variables: dict[str, Any], x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
    """A network in training: its output, and its variables with new running statistics."""
    output, changed = module.apply(variables, x, train=True, mutable=["batch_stats"])
    return output, {**variables, **changed}


def interleave(a: jax.Array, b: jax.Array) -> jax.Array:
    """`[a₀, b₀, a₁, b₁, …]`, of `[B, ...]` each. Where devices share the batch, each keeps the examples that it has.

    One after the other, the rows of both would have to change their devices.
    """
    return jnp.stack([a, b], 1).reshape(-1, *a.shape[1:])


def take(batch: Batch, part: draws.Integer, parts: int) -> Batch:
    """Of `[B, ...]` the examples `part`, `part + parts`, …: from every device's own, where devices share the batch."""
    if parts == 1:
        return batch
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:])[:, part], batch)


def mean_of(function: Callable[[draws.Integer], Any], parts: int, unroll: bool) -> Any:
    """The mean of `function(part)`, a tree of floats, over the parts, one after another."""
    if parts == 1:
        return function(0)
    total = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, 0))
    add = lambda part, total: jax.tree.map(jnp.add, total, function(part))  # noqa: E731
    if unroll:
        for part in range(parts):
            total = add(part, total)
    else:
        total = jax.lax.fori_loop(0, parts, add, total)
    return jax.tree.map(lambda x: x / parts, total)


def statistics(variables: dict[str, Any]) -> dict[str, Any]:
    """A network's variables without its parameters."""
    return {name: values for name, values in variables.items() if name != "params"}


def check_microbatches(state: TrainState, batch_size: int, microbatches: int) -> None:
    """Raises `ValueError` if batches of this size cannot be cut into so many parts."""
    if batch_size % microbatches:
        raise ValueError(f"a batch of {batch_size} cannot be cut into {microbatches} microbatches of one size")
    if microbatches > 1 and any("batch_stats" in player.variables for player in (state.generator, state.critic)):
        raise ValueError("batch normalization needs the whole batch: use microbatches = 1, or another normalization")


def repeat(train_step: TrainStep) -> Callable[..., tuple[TrainState, Metrics]]:
    """Several generator iterations as one pure function, for networks so small that dispatch would cost more.

    Returns `train_steps(state, batches, count) -> (state, metrics)`: `batches` hold up to K iterations' batches
    along a new first axis, of which the first `count` are done, and metrics have shape `[K]`. The loop's body
    does not depend on K or `count`, so neither does the trajectory.
    """

    def train_steps(state: TrainState, batches: Batch, count: jax.Array) -> tuple[TrainState, Metrics]:
        length = jax.tree.leaves(batches)[0].shape[0]
        first = jax.tree.map(lambda x: x[0], batches)
        shapes = jax.eval_shape(train_step, state, first)[1]
        metrics = jax.tree.map(lambda m: jnp.zeros((length, *m.shape), m.dtype), shapes)

        def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            state, new = train_step(state, jax.tree.map(lambda x: x[i], batches))
            return state, jax.tree.map(lambda all_, m: all_.at[i].set(m), metrics, new)

        return jax.lax.fori_loop(0, count, body, (state, metrics))

    return train_steps

"""One generator iteration as one pure function (arXiv 1704.00028, Algorithm 1; arXiv 1701.07875, Algorithm 1)."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import traverse_util

from wgan_jax.method import draws, games
from wgan_jax.method.batch import Batch, Label, labels, prepare
from wgan_jax.method.constraints import Metrics
from wgan_jax.method.gan import Gan
from wgan_jax.method.placement import IN_HAND, Placement, mean_of, take
from wgan_jax.method.state import Player, TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    gan: Gan, *, unroll: bool = False, microbatches: int = 1, placement: Placement = IN_HAND
) -> TrainStep:
    """A pure `train_step(state, batch) -> (state, metrics)`, to be compiled with `jax.jit`.

    It does one critic update for each row of the batch's first axis, each on its own real examples, latents and
    ε, then one generator update on latents of its own. WGAN-GP's code updates the generator first, and not in the first
    iteration, so in all it does one generator update fewer. `jax.jit(train_step, donate_argnums=0)` saves the memory of
    a second state, and gives the first one away.

    The batch is `{"image": [n_critic, B, *image_shape]}`: float32, for images in [−1, 1], or images as uint8; see
    `prepare`. That of a class-conditional GAN has `label [n_critic, B]` int32 too. What a critic update generates
    takes the classes of its real examples, as in WGAN-GP's CIFAR-10 code; those of the generator's update are drawn.

    Metrics, float32 scalars; those of the critic are of the last critic update, before it was applied:
      critic_loss: what the critic minimises, with the weighted penalty.
      generator_loss: what the generator minimises.
      wasserstein_estimate: `mean(critic(real)) − mean(critic(fake))`; another game has its own estimate instead.
      gradient_penalty, gradient_norm: of the interpolates, without λ; the norm is their mean.
      clipped_fraction: the share of the critic's parameters at the clipping bound.
      critic_grad_norm, generator_grad_norm: Euclidean norms over all parameters.
      critic_class_loss, critic_class_accuracy: of the auxiliary head on real examples, where there is one.
      generator_class_loss: of the auxiliary head on generated ones. Both without their weights.

    `unroll` writes the critic's updates out one after another instead of in a loop: the same numbers, and
    `n_critic` times the compilation.

    `microbatches` cuts every batch into so many parts, and adds up their gradients one part after another: the same
    numbers, up to the order of a sum, in less memory. Batch normalization would take its moments of a part alone, so
    it is refused.

    `placement` is for `wgan_jax.parallel`, where devices share a batch.

    Raises (when traced):
      ValueError: if the batch has another shape than the GAN's, or is of other integers than uint8, or lacks labels,
        or cannot be cut into microbatches.
    """
    critic_optimizer = optax.with_extra_args_support(gan.critic_optimizer)
    generator_optimizer = optax.with_extra_args_support(gan.generator_optimizer)

    def critic_loss(
        params: Any, critic: Player, real: jax.Array, fake: jax.Array, label: Label, epsilon: jax.Array
    ) -> tuple[jax.Array, tuple[Metrics, dict[str, Any]]]:
        variables = critic.variables | {"params": params}
        if "batch_stats" in variables:  # moments of real and of fake examples apart, as in WGAN's code
            real_scores, variables, logits = apply(gan.critic, variables, real, label)
            fake_scores, variables, _ = apply(gan.critic, variables, fake, label)
        else:  # one pass over both is faster
            both = None if label is None else jnp.concatenate([label, label])
            scores, variables, logits = apply(gan.critic, variables, jnp.concatenate([real, fake]), both)
            real_scores, fake_scores = jnp.split(scores, 2)
        constraint, metrics = gan.constraint.loss(
            lambda x: apply(gan.critic, variables, x, label)[0], real, fake, epsilon
        )
        loss = gan.game.critic_loss(real_scores, fake_scores) + constraint
        if logits is not None and label is not None:
            logits = logits[: label.shape[0]]  # of the real examples
            class_loss = games.class_loss(logits, label)
            loss += gan.critic_class_weight * class_loss
            accuracy = jnp.mean(logits.argmax(-1) == label, dtype=jnp.float32)
            metrics |= {"critic_class_loss": class_loss, "critic_class_accuracy": accuracy}
        estimate = gan.game.estimate(real_scores, fake_scores)
        metrics |= {"critic_loss": loss, gan.game.estimate_name: estimate}
        return loss, (metrics, variables)

    def generator_loss(
        params: Any, generator: Player, critic: Player, latents: jax.Array, label: Label
    ) -> tuple[jax.Array, tuple[Metrics, dict[str, Any]]]:
        fake, variables, _ = apply(gan.generator, generator.variables | {"params": params}, latents, label)
        scores, _, logits = apply(gan.critic, critic.variables, fake, label)
        loss, metrics = gan.game.generator_loss(scores), {}
        if logits is not None and label is not None:
            class_loss = games.class_loss(logits, label)
            loss += gan.generator_class_weight * class_loss
            metrics["generator_class_loss"] = class_loss
        return loss, (metrics | {"generator_loss": loss}, variables)

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
            label = rows.get("label")
            fake, _, _ = apply(gan.generator, state.generator.variables, latents, label)
            (_, (metrics, variables)), gradient = jax.value_and_grad(critic_loss, has_aux=True)(
                params, critic, real, fake, label, epsilon
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
            index = numbers(size, part)
            latents = draws.generator_latents(state.key, state.step, index, gan.latent_dim)
            label = draws.generator_labels(state.key, state.step, index, gan.num_classes) if gan.num_classes else None
            (_, (metrics, variables)), gradient = jax.value_and_grad(generator_loss, has_aux=True)(
                generator.params, generator, critic, latents, label
            )
            return gradient, metrics, statistics(variables)

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
        label = labels(gan, batch)
        batch = {"image": real} if label is None else {"image": real, "label": label}

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

    return gan.with_precision(train_step)


def ema_decay(decay: float, step: jax.Array) -> jax.Array:
    """The average's decay at a step: `decay`, or less while the average would still hold the initial weights."""
    return jnp.minimum(decay, (1 + step) / (10 + step))


def apply(
    module: nn.Module, variables: dict[str, Any], x: jax.Array, label: Label = None
) -> tuple[jax.Array, dict[str, Any], jax.Array | None]:
    """A network in training: its output, its variables with new running statistics, and the logits that it sows."""
    output, changed = module.apply(variables, x, label, train=True, mutable=["batch_stats", "intermediates"])
    sown = traverse_util.flatten_dict(changed.get("intermediates", {}))
    logits = next((values[-1] for path, values in sown.items() if path[-1] == "logits"), None)
    return output, variables | {name: changed[name] for name in changed if name != "intermediates"}, logits


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

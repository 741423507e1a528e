"""One generator iteration as one pure function (arXiv 1704.00028, Algorithm 1; arXiv 1701.07875, Algorithm 1)."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from wgan_jax.method.batch import Batch, labels, prepare
from wgan_jax.method.draws import Integer, Keys, Stream
from wgan_jax.method.games import Metrics
from wgan_jax.method.gan import Gan, mixes_examples
from wgan_jax.method.objectives import Loss, critic_loss, generator_loss
from wgan_jax.method.placement import WHOLE_BATCH, Placement, mean_of, take
from wgan_jax.method.player import Player
from wgan_jax.method.state import TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Gradient = tuple[chex.ArrayTree, Metrics, dict[str, chex.ArrayTree]]
"""A gradient by parameters, metrics, and new running statistics."""


def make_train_step(
    gan: Gan, *, unroll: bool = False, microbatches: int = 1, placement: Placement = WHOLE_BATCH
) -> TrainStep:
    """Returns a pure function `train_step(state, batch) -> (state, metrics)`, to be compiled with `jax.jit`.

    It does one critic update for each row of the batch's first axis, each on its own real examples, latents and ε.
    Then it does one generator update on latents of its own. WGAN-GP's code updates the generator first, and not in the
    first iteration, so it does one generator update fewer in all. `jax.jit(train_step, donate_argnums=0)` saves the
    memory of a second state; the state that goes in is then lost.

    The batch is `{"image": [n_critic, B, *image_shape]}`: float32, with images in [−1, 1], or uint8 (see
    `wgan_jax.method.batch.prepare`). A class-conditional GAN also needs `label [n_critic, B]` int32. In a critic update
    the generated examples take the classes of the real ones, as in WGAN-GP's CIFAR-10 code. For the generator's update
    the classes are drawn.

    The metrics are float32 scalars. The critic's are those of the last critic update, before it was applied:
      critic_loss: the loss that the critic minimises, with the weighted penalty.
      generator_loss: the loss that the generator minimises.
      wasserstein_estimate: `mean(critic(real)) − mean(critic(fake))`. Another game has its own estimate instead.
      gradient_penalty, gradient_norm: the penalty at the interpolates without λ, and the mean of their norms.
      r1_penalty, r2_penalty, dragan_penalty, lipschitz_penalty, divergence_penalty: the same of other constraints.
      consistency_term: the term with its weight.
      clipped_fraction: the share of the critic's parameters at the clipping bound.
      critic_grad_norm, generator_grad_norm: Euclidean norms over all parameters.
      critic_class_loss, critic_class_accuracy: the auxiliary head on real examples, without its weight.
      generator_class_loss: the auxiliary head on generated examples, without its weight.

    Args:
      gan: what to compute.
      unroll: whether the critic's updates are written out one after another instead of in a loop. The numbers are the
        same, and compilation takes `n_critic` times as long.
      microbatches: number of parts into which every batch is cut, and whose gradients are added up one after another.
        The numbers are the same up to the order of a sum, in less memory. Networks that mix examples, such as those
        with batch normalization, are refused: their moments would be those of a part.
      placement: which examples are here, where devices share a batch; see `wgan_jax.devices.mesh`.

    Raises (when traced):
      ValueError: if the batch has another shape than the GAN's, holds integers other than uint8, lacks labels, or
        cannot be cut into microbatches.
    """

    def keys(state: TrainState, update: Integer, size: int, part: Integer) -> Keys:
        index = placement.example_index(size // microbatches) * microbatches + part
        return Keys(state.key, state.step, update, index)

    def mean(gradient_of: Callable[[Integer], Gradient]) -> Gradient:
        return placement.mean(mean_of(gradient_of, microbatches, unroll))

    def update_critic(state: TrainState, critic: Player, batch: Batch, update: Integer) -> tuple[Player, Metrics]:
        params, before = gan.constraint.before(critic.params)
        _, constraint_state = gan.constraint.weights(params, critic.constraint)

        def gradient_of(part: Integer) -> Gradient:
            rows, here = take(batch, part, microbatches), keys(state, update, len(batch["image"]), part)
            real = prepare(gan, here, rows["image"])
            latents, condition = gan.prior.draw(here.of(Stream.CRITIC_LATENTS), rows.get("label"))
            fake = gan.generate(state.generator.variables, latents, condition, train=True).value
            return gradient(critic_loss, params, gan, critic, real, fake, here, condition)

        slope, metrics, statistics = mean(gradient_of)
        params, opt_state = descend(gan.critic_optimizer, slope, critic.opt_state, params, state.step)
        params, after = gan.constraint.project(params)
        check_projection(params, critic.params)
        metrics |= before | after | {"critic_grad_norm": optax.tree.norm(slope)}
        return Player(statistics | {"params": params}, opt_state, constraint_state), metrics

    def update_generator(state: TrainState, critic: Player, size: int) -> tuple[Player, Metrics]:
        generator = state.generator

        def gradient_of(part: Integer) -> Gradient:
            here = keys(state, 0, size, part)
            label = gan.prior.classes(here.of(Stream.GENERATOR_LABELS))
            latents, condition = gan.prior.draw(here.of(Stream.GENERATOR_LATENTS), label)
            return gradient(generator_loss, generator.params, gan, generator, critic, latents, condition, here)

        slope, metrics, statistics = mean(gradient_of)
        params, opt_state = descend(gan.generator_optimizer, slope, generator.opt_state, generator.params, state.step)
        metrics |= {"generator_grad_norm": optax.tree.norm(slope)}
        return Player(statistics | {"params": params}, opt_state), metrics

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        n_critic, batch_size = check_batch(gan, state, batch, microbatches)
        label = labels(gan, batch)
        batch = {"image": batch["image"]} if label is None else {"image": batch["image"], "label": label}

        critic, metrics = in_turn(lambda *row: update_critic(state, *row), state.critic, batch, n_critic, unroll)
        generator, more = update_generator(state, critic, batch_size * gan.generator_batch_multiple)
        rate = 1 - ema_decay(gan.ema_decay, state.step)
        ema = optax.incremental_update(generator.variables, state.ema, rate)
        return TrainState(state.step + 1, state.key, generator, critic, ema), metrics | more

    return gan.with_precision(train_step)


def gradient(loss: Callable[..., Loss], params: chex.ArrayTree, *args: Any) -> Gradient:
    """Returns the gradient of a loss by `params`, its metrics, and the network's new running statistics."""
    (_, (metrics, variables)), slope = jax.value_and_grad(loss, has_aux=True)(params, *args)
    return slope, metrics, {name: values for name, values in variables.items() if name != "params"}


def descend(
    optimizer: optax.GradientTransformation,
    slope: chex.ArrayTree,
    opt_state: chex.ArrayTree,
    params: chex.ArrayTree,
    step: jax.Array,
) -> tuple[chex.ArrayTree, chex.ArrayTree]:
    """Returns parameters and optimizer state after one update; the learning rate may depend on the iteration."""
    updates, opt_state = optax.with_extra_args_support(optimizer).update(slope, opt_state, params, step=step)
    return optax.apply_updates(params, updates), opt_state


def in_turn(
    update: Callable[[Player, Batch, Integer], tuple[Player, Metrics]],
    player: Player,
    batch: Batch,
    count: int,
    unroll: bool,
) -> tuple[Player, Metrics]:
    """Does one update after another, each with its row of the batch; returns the metrics of the last one."""
    if not unroll:
        player, metrics = jax.lax.scan(lambda player, row: update(player, *row), player, (batch, jnp.arange(count)))
        return player, jax.tree.map(lambda values: values[-1], metrics)
    metrics = {}
    for i in range(count):
        player, metrics = update(player, {name: values[i] for name, values in batch.items()}, jnp.int32(i))
    return player, metrics


def check_batch(gan: Gan, state: TrainState, batch: Batch, microbatches: int) -> tuple[int, int]:
    """Returns the numbers of critic updates and of examples in each.

    Raises:
      ValueError: if the examples have another shape than the GAN's, or cannot be cut into microbatches.
    """
    shape = batch["image"].shape
    chex.assert_shape(
        batch["image"],
        (None, None, *gan.image_shape),
        custom_message="batch['image'] must be [n_critic, B, *image_shape]",
        exception_type=ValueError,
    )
    if shape[1] % microbatches:
        raise ValueError(f"a batch of {shape[1]} cannot be cut into {microbatches} microbatches of one size")
    networks = ((gan.generator, state.generator), (gan.critic, state.critic))
    if microbatches > 1 and any(mixes_examples(network, player.variables) for network, player in networks):
        raise ValueError(
            "batch normalization needs the whole batch: use microbatches = 1, or another normalization; a network of "
            "your own that does not mix examples says so by an attribute mixes_examples = False"
        )
    return shape[0], shape[1]


def check_projection(params: chex.ArrayTree, before: chex.ArrayTree) -> None:
    """Raises `ValueError` if a constraint has changed the shapes or types of the critic's parameters."""
    chex.assert_trees_all_equal_shapes_and_dtypes(
        params,
        before,
        custom_message="a constraint's `before` and `project` must return parameters of the same shapes and types",
        exception_type=ValueError,
    )


def ema_decay(decay: float, step: jax.Array) -> jax.Array:
    """Returns the average's decay at a step: `decay`, or less while the average still holds the initial weights."""
    return jnp.minimum(decay, (1 + step) / (10 + step))


def repeat(train_step: TrainStep) -> Callable[..., tuple[TrainState, Metrics]]:
    """Returns several generator iterations as one pure function, for networks so small that dispatch would cost more.

    It is `train_steps(state, batches, count) -> (state, metrics)`. `batches` hold the batches of up to K iterations
    along a new first axis, of which the first `count` are used. The metrics have shape `[K]`. The body of the loop
    depends neither on K nor on `count`, so the trajectory does not either.
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

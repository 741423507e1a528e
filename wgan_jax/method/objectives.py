"""The losses that the two players minimise, as pure functions of their parameters and a batch."""

import chex
import jax
import jax.numpy as jnp

from wgan_jax.method import heads
from wgan_jax.method.condition import UNCONDITIONAL, Condition
from wgan_jax.method.draws import Keys
from wgan_jax.method.games import Metrics
from wgan_jax.method.gan import Gan, mixes_examples
from wgan_jax.method.player import Player

Loss = tuple[jax.Array, tuple[Metrics, dict[str, chex.ArrayTree]]]


def critic_loss(
    params: chex.ArrayTree,
    gan: Gan,
    critic: Player,
    real: jax.Array,
    fake: jax.Array,
    keys: Keys,
    condition: Condition = UNCONDITIONAL,
) -> Loss:
    """Returns the critic's loss: the game's, the constraint's term and its heads' (arXiv 1704.00028, Algorithm 1).

    Args:
      params: parameters of the critic, by which `jax.grad` differentiates.
      gan: what to compute.
      critic: the other arrays of the critic.
      real: `[B, *image_shape]` float32.
      fake: `[B, *image_shape]` float32, generated under the same condition.
      keys: of these examples in this update; the constraint draws from them.
      condition: what is known of each pair of a real and a generated example.

    Returns:
      The loss `[]`; and the metrics with the critic's variables after its passes.
    """
    critic = critic.with_params(params)
    size = len(real)
    if mixes_examples(gan.critic, critic.variables):  # moments of real and of fake examples apart, as in WGAN's code
        on_real = gan.score(critic, real, condition, train=True)
        critic = critic.with_variables(on_real.variables)
        on_fake = gan.score(critic, fake, condition, train=True)
        critic = critic.with_variables(on_fake.variables)
        real_scores, fake_scores, real_sown, fake_sown = on_real.value, on_fake.value, on_real.sown, on_fake.sown
    else:  # one pass over both is faster
        both = gan.score(critic, jnp.concatenate([real, fake]), condition.doubled(), train=True)
        critic = critic.with_variables(both.variables)
        real_scores, fake_scores = jnp.split(both.value, 2)
        # A critic may sow more than its heads' outputs, of any form.
        sown = {head.output: both.sown[head.output] for head in gan.heads if head.output in both.sown}
        real_sown = {name: values[:size] for name, values in sown.items()}
        fake_sown = {name: values[size:] for name, values in sown.items()}

    score = lambda x: gan.score(critic, x, condition, train=True).value  # noqa: E731
    term, metrics = gan.constraint.loss(score, real, fake, keys)
    loss = gan.game.critic_loss(real_scores, fake_scores) + term
    for outputs, place, prefix in ((real_sown, "on_real", "critic"), (fake_sown, "on_fake", "critic_fake")):
        losses, measured = heads.terms(gan.heads, outputs, condition, place, prefix)
        loss = sum(losses, loss)
        metrics |= measured
    metrics |= {"critic_loss": loss, gan.game.estimate_name: gan.game.estimate(real_scores, fake_scores)}
    return loss, (metrics, critic.variables)


def generator_loss(
    params: chex.ArrayTree,
    gan: Gan,
    generator: Player,
    critic: Player,
    latents: jax.Array,
    condition: Condition = UNCONDITIONAL,
) -> Loss:
    """Returns the generator's loss against a critic: the game's and the heads' (arXiv 1704.00028, Algorithm 1).

    Args:
      params: parameters of the generator, by which `jax.grad` differentiates.
      gan: what to compute.
      generator: the other arrays of the generator.
      critic: the critic, which stays as it is.
      latents: `[B, latent_dim]`.
      condition: what is known of each example that is generated.

    Returns:
      The loss `[]`; and the metrics with the generator's variables after its pass.
    """
    fake = gan.generate(generator.with_params(params).variables, latents, condition, train=True)
    scored = gan.score(critic, fake.value, condition, train=True)
    losses, metrics = heads.terms(gan.heads, scored.sown, condition, "for_generator", "generator")
    loss = sum(losses, gan.game.generator_loss(scored.value))
    return loss, (metrics | {"generator_loss": loss}, fake.variables)

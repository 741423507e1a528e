"""The losses that the two players minimise, as pure functions of their parameters and a batch."""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from wgan_jax.method import draws, heads
from wgan_jax.method.condition import UNCONDITIONAL, Condition
from wgan_jax.method.draws import CriticPass, Keys
from wgan_jax.method.games import Metrics
from wgan_jax.method.gan import Gan, Output, drops_out, mixes_examples
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
        on_real = gan.score(critic, real, dropping(gan, condition, keys, CriticPass.REAL), train=True)
        critic = critic.with_variables(on_real.variables)
        on_fake = gan.score(critic, fake, dropping(gan, condition, keys, CriticPass.FAKE), train=True)
        critic = critic.with_variables(on_fake.variables)
        real_scores, fake_scores, real_sown, fake_sown = on_real.value, on_fake.value, on_real.sown, on_fake.sown
    else:  # one pass over both is faster
        twice = dropping(gan, condition.doubled(), keys, CriticPass.REAL, CriticPass.FAKE)
        both = gan.score(critic, jnp.concatenate([real, fake]), twice, train=True)
        critic = critic.with_variables(both.variables)
        real_scores, fake_scores = jnp.split(both.value, 2)
        # A critic may sow more than its heads' outputs, of any form.
        sown = {head.output: both.sown[head.output] for head in gan.heads if head.output in both.sown}
        real_sown = {name: values[:size] for name, values in sown.items()}
        fake_sown = {name: values[size:] for name, values in sown.items()}

    term, metrics = gan.constraint.loss(Scores(gan, critic, condition, keys), real, fake, keys)
    loss = gan.game.critic_loss(real_scores, fake_scores) + term
    for outputs, place, prefix in ((real_sown, "on_real", "critic"), (fake_sown, "on_fake", "critic_fake")):
        losses, measured = heads.terms(gan.heads, outputs, condition, place, prefix)
        loss = sum(losses, loss)
        metrics |= measured
    metrics |= {"critic_loss": loss, gan.game.estimate_name: gan.game.estimate(real_scores, fake_scores)}
    return loss, (metrics, critic.variables)


def dropping(gan: Gan, condition: Condition, keys: Keys, *passes: CriticPass) -> Condition:
    """Returns the condition of a pass with dropout, of a batch in which each pass has the examples of `keys` in turn.

    For a critic without dropout it is the condition itself.
    """
    if not drops_out(gan.critic):
        return condition
    return dataclasses.replace(condition, dropout=draws.dropout_keys(keys, *passes))


@dataclasses.dataclass(frozen=True)
class Scores:
    """The critic of one update as a constraint calls it; see `constraints.CriticFn`."""

    gan: Gan
    critic: Player
    condition: Condition
    keys: Keys

    def __call__(self, x: jax.Array, /) -> jax.Array:
        """Returns the scores `[B]` of points `[B, *image_shape]`."""
        return self._pass(x, CriticPass.PENALTY).value

    def with_features(self, x: jax.Array, critic_pass: CriticPass, /) -> tuple[jax.Array, jax.Array]:
        """Returns the scores `[B]` and the last hidden layer `[B, D]` of points, with the dropout of another pass.

        Raises:
          ValueError: if the critic sows no `features`.
        """
        output = self._pass(x, critic_pass)
        if "features" not in output.sown:
            raise ValueError(
                "the critic must sow its last hidden layer as `features`, as those of ours with dropout do"
            )
        return output.value, output.sown["features"]

    def _pass(self, x: jax.Array, critic_pass: CriticPass) -> Output:
        return self.gan.score(self.critic, x, dropping(self.gan, self.condition, self.keys, critic_pass), train=True)


def generator_loss(
    params: chex.ArrayTree,
    gan: Gan,
    generator: Player,
    critic: Player,
    latents: jax.Array,
    condition: Condition = UNCONDITIONAL,
    keys: Keys | None = None,
) -> Loss:
    """Returns the generator's loss against a critic: the game's and the heads' (arXiv 1704.00028, Algorithm 1).

    Args:
      params: parameters of the generator, by which `jax.grad` differentiates.
      gan: what to compute.
      generator: the other arrays of the generator.
      critic: the critic, which stays as it is.
      latents: `[B, latent_dim]`.
      condition: what is known of each example that is generated.
      keys: of these examples, from which a critic's dropout is drawn; None for no dropout.

    Returns:
      The loss `[]`; and the metrics with the generator's variables after its pass.
    """
    fake = gan.generate(generator.with_params(params).variables, latents, condition, train=True)
    seen = condition if keys is None else dropping(gan, condition, keys, CriticPass.GENERATOR)
    scored = gan.score(critic, fake.value, seen, train=True)
    losses, metrics = heads.terms(gan.heads, scored.sown, condition, "for_generator", "generator")
    loss = sum(losses, gan.game.generator_loss(scored.value))
    return loss, (metrics | {"generator_loss": loss}, fake.variables)

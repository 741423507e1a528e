import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from wgan_jax.method import draws

KEY = jax.random.key(3)
INDEX = jnp.arange(8)


def test_an_examples_draw_depends_on_its_index_alone():
    whole = draws.critic_latents(KEY, 5, 1, INDEX, 4)
    np.testing.assert_array_equal(draws.critic_latents(KEY, 5, 1, INDEX[2:5], 4), whole[2:5])
    np.testing.assert_array_equal(draws.epsilon(KEY, 5, 1, INDEX[6:]), draws.epsilon(KEY, 5, 1, INDEX)[6:])


def test_the_documented_recipe():
    """The four numbers, folded in, in the order that the module's docstring gives."""
    key = KEY
    for number in (draws.Stream.EPSILON, 7, 2, 4):
        key = jax.random.fold_in(key, int(number))
    assert draws.epsilon(KEY, 7, 2, jnp.array([4]))[0] == jax.random.uniform(key)


def test_no_two_draws_are_alike():
    drawn = [
        function(KEY, step, *update, INDEX, 4)
        for step in (0, 1)
        for function, update in (
            (draws.critic_latents, (0,)),
            (draws.critic_latents, (1,)),
            (draws.generator_latents, ()),
            (draws.held_out_latents, ()),
        )
    ]
    rows = np.concatenate([*drawn, draws.sample_latents(KEY, INDEX, 4)])
    assert len(np.unique(rows.round(6), axis=0)) == len(rows)


def test_labels_are_uniform_and_each_depends_on_its_index_alone():
    index = jnp.arange(4_000)
    for label in (draws.generator_labels(KEY, 3, index, 7), draws.sample_labels(KEY, index, 7)):
        assert (label.min(), label.max(), label.dtype) == (0, 6, jnp.int32)
        assert stats.chisquare(np.bincount(label)).pvalue > 0.01
    np.testing.assert_array_equal(
        draws.generator_labels(KEY, 3, index[5:9], 7), draws.generator_labels(KEY, 3, index, 7)[5:9]
    )
    assert (draws.generator_labels(KEY, 4, index, 7) != draws.generator_labels(KEY, 3, index, 7)).any()


def test_traced_and_plain_integers_draw_alike():
    traced = jax.jit(lambda step, update: draws.critic_latents(KEY, step, update, INDEX, 3))(4, 1)
    np.testing.assert_array_equal(traced, draws.critic_latents(KEY, 4, 1, INDEX, 3))


def test_distributions():
    index = jnp.arange(4_000)
    assert stats.kstest(np.ravel(draws.critic_latents(KEY, 0, 0, index, 2)), "norm").pvalue > 0.01
    epsilon = np.asarray(draws.epsilon(KEY, 0, 0, index))
    assert stats.kstest(epsilon, "uniform").pvalue > 0.01
    assert epsilon.min() >= 0
    assert epsilon.max() < 1

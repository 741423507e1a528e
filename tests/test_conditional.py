"""Class-conditional GANs: norms and heads, the losses of a step, samples of a class, data with and without labels."""

import dataclasses
import functools
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

import wgan_jax
from wgan_jax import UserError, data
from wgan_jax.evaluate import evaluate
from wgan_jax.method import draws, games
from wgan_jax.method.sampling import generate
from wgan_jax.metrics.estimate import fixed_set, make_estimate
from wgan_jax.networks import dcgan, mlp
from wgan_jax.networks.layers import ClassHead, Norm, of_class
from wgan_jax.run import differences
from wgan_jax.run.training import train

from .commands import ROOT, command, run, run_here
from .conftest import tiny_config
from .test_commands import pixels

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(2)
BATCH = 8


def test_a_conditional_norm_is_a_norm_and_an_affine_map_of_each_class(rng):
    x = jnp.asarray(rng.normal(3, 2, size=(6, 4, 4, 5)), jnp.float32)
    label = np.array([2, 0, 2, 1, 1, 0])
    for kind, axes in (("batch", (0, 1, 2)), ("layer", (1, 2, 3))):
        module = Norm(kind, num_classes=3)
        variables = module.init(KEY, x, label, train=True)
        scale, bias = rng.normal(size=(2, 3, 5)).astype(np.float32)
        assert jax.tree.map(np.shape, variables["params"]) == {"scale": (3, 5), "bias": (3, 5)}
        variables = variables | {"params": {"scale": scale, "bias": bias}}
        y, _ = module.apply(variables, x, label, train=True, mutable=["batch_stats"])
        normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        np.testing.assert_allclose(y, normal * scale[label][:, None, None] + bias[label][:, None, None], atol=1e-4)


def test_the_row_of_a_class_and_its_gradient(rng):
    table, y = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    label = np.array([3, 1, 1, 0, 3])
    np.testing.assert_array_equal(of_class(table, label), table[label])
    expected = np.zeros_like(table)
    np.add.at(expected, label, y)
    np.testing.assert_allclose(jax.grad(lambda t: jnp.sum(of_class(t, label) * y))(table), expected, atol=1e-6)


def test_projection_adds_an_inner_product_with_a_vector_of_the_class(rng):
    features, label = rng.normal(size=(6, 5)).astype(np.float32), np.array([0, 1, 2, 2, 1, 0])
    score = rng.normal(size=6).astype(np.float32)
    v = rng.normal(size=(3, 5)).astype(np.float32)
    head = ClassHead("projection", 3)
    scores = head.apply({"params": {"projection": v}}, score, features, label)
    np.testing.assert_allclose(scores, score + np.einsum("bd,bd->b", v[label], features), rtol=1e-4)


CRITICS = [mlp.Critic(width=4, depth=1), dcgan.Critic(width=2)]


@pytest.mark.parametrize("plain", CRITICS, ids=lambda critic: type(critic).__module__.rpartition(".")[2])
def test_an_auxiliary_head_leaves_the_scores_alone_and_sows_its_logits(plain):
    x = jax.random.normal(KEY, (2, 8, 8, 1))
    critic = dataclasses.replace(plain, conditioning="auxiliary", num_classes=3)
    variables = jax.jit(critic.init)(KEY, x)
    assert set(variables) == {"params"}
    scores, sown = jax.jit(lambda v: critic.apply(v, x, mutable=["intermediates"]))(variables)
    without = {name: value for name, value in variables["params"].items() if name != "classes"}
    np.testing.assert_array_equal(scores, jax.jit(plain.apply)({"params": without}, x))
    assert sown["intermediates"]["classes"]["logits"][0].shape == (2, 3)


@pytest.mark.parametrize(
    "network",
    [
        mlp.Generator((8, 8, 1), width=2, num_classes=3),
        dcgan.Generator((8, 8, 1), width=2, num_classes=3),
        dcgan.Critic(width=2, num_classes=3, conditioning="projection"),
    ],
)
def test_labels_that_are_missing_are_named(network):
    x = jnp.zeros((2, 8, 8, 1) if isinstance(network, dcgan.Critic) else (2, 4))
    with pytest.raises(ValueError, match="needs labels"):
        network.init(KEY, x)


# --- one step ---


def conditional_gan(kind):
    return wgan_jax.build(
        tiny_config(
            n_critic=1,
            conditional__kind=kind,
            generator__batch_multiple=2,
            critic__activation="tanh",
        )
    )


@functools.cache
def somewhere(kind):
    """A GAN, and a state of it where all parameters differ from their first values."""
    gan = conditional_gan(kind)
    state = wgan_jax.init_state(gan, jax.random.key(1))
    rng = np.random.default_rng(0)

    def away(params):
        return jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), params)

    critic = state.critic.replace(variables=away(state.critic.variables))
    return gan, state.replace(critic=critic, ema=away(state.ema))


def batch_of_noise():
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(-1, 1, (1, BATCH, 8, 8, 1)).astype(np.float32),
        "label": rng.integers(10, size=(1, BATCH)).astype(np.int32),
    }


def cross_entropy(logits, label):
    return -np.mean(log_softmax(np.asarray(logits, np.float64), axis=1)[np.arange(len(label)), label])


def scores_and_logits(gan, critic, x, label):
    scores, sown = gan.critic.apply(critic.variables, x, label, mutable=["intermediates"])
    return scores, sown["intermediates"]["classes"]["logits"][0] if sown else None


@pytest.mark.parametrize("kind", ["auxiliary", "projection"])
def test_both_losses_are_those_of_the_papers_code(kind):
    gan, state = somewhere(kind)
    batch = batch_of_noise()
    real, label = jnp.asarray(batch["image"][0]), batch["label"][0]
    after, metrics = jax.jit(wgan_jax.make_train_step(gan))(state, batch)

    @jax.jit
    def critics_view():
        """The critic's scores and logits of real and generated examples, and its penalty: all with the real labels."""
        index = jnp.arange(BATCH)
        z = draws.critic_latents(state.key, 0, 0, index, gan.latent_dim)
        fake = gan.generator.apply(state.generator.variables, z, label)
        epsilon = draws.epsilon(state.key, 0, 0, index)
        penalty = wgan_jax.gradient_penalty(
            lambda x: scores_and_logits(gan, state.critic, x, label)[0], real, fake, epsilon
        )
        return (
            *scores_and_logits(gan, state.critic, real, label),
            gan.critic.apply(state.critic.variables, fake, label),
            penalty,
        )

    @jax.jit
    def generators_view():
        """Scores and logits of what the generator's update generates, of classes that are drawn."""
        index = jnp.arange(2 * BATCH)
        drawn = draws.generator_labels(state.key, 0, index, 10)
        z = draws.generator_latents(state.key, 0, index, gan.latent_dim)
        fake = gan.generator.apply(state.generator.variables, z, drawn)
        return (*scores_and_logits(gan, after.critic, fake, drawn), drawn)

    real_scores, real_logits, fake_scores, penalty = critics_view()
    critic_loss = np.mean(fake_scores) - np.mean(real_scores) + 10 * penalty
    fake_scores, fake_logits, drawn = generators_view()
    generator_loss = -np.mean(fake_scores)
    if kind == "auxiliary":
        real_entropy, fake_entropy = cross_entropy(real_logits, label), cross_entropy(fake_logits, drawn)
        critic_loss += 1.0 * real_entropy
        generator_loss += 0.1 * fake_entropy
        np.testing.assert_allclose(metrics["critic_class_loss"], real_entropy, rtol=1e-4)
        np.testing.assert_allclose(metrics["critic_class_accuracy"], np.mean(real_logits.argmax(1) == label))
        np.testing.assert_allclose(metrics["generator_class_loss"], fake_entropy, rtol=1e-3)
    else:
        assert not any("class" in name for name in metrics)
    np.testing.assert_allclose(metrics["critic_loss"], critic_loss, rtol=1e-3)
    np.testing.assert_allclose(metrics["generator_loss"], generator_loss, rtol=1e-3)


def test_the_loss_of_classes_is_a_cross_entropy(rng):
    logits, label = rng.normal(size=(7, 4)).astype(np.float32), rng.integers(4, size=7)
    np.testing.assert_allclose(games.class_loss(logits, label), cross_entropy(logits, label), rtol=1e-5)


def test_a_batch_without_its_labels_is_an_error():
    gan, state = somewhere("auxiliary")
    batch, train_step = batch_of_noise(), wgan_jax.make_train_step(gan)
    with pytest.raises(ValueError, match=r"batch\['label'\] is missing, but must be one class per image: \(1, 8\)"):
        jax.eval_shape(train_step, state, {"image": batch["image"]})
    with pytest.raises(ValueError, match=r"batch\['label'\] has shape \(8,\)"):
        jax.eval_shape(train_step, state, batch | {"label": batch["label"][0]})


def test_the_estimate_has_fakes_of_the_images_classes():
    gan, state = somewhere("projection")
    batch = fixed_set(data.load(tiny_config(), "held_out"))
    label = batch["label"].ravel()

    @jax.jit
    def scores():
        z = draws.held_out_latents(state.key, state.step, jnp.arange(len(label)), gan.latent_dim)
        fake = gan.generator.apply(state.generator.variables, z, label)
        real = batch["image"].reshape(fake.shape)
        return [gan.critic.apply(state.critic.variables, x, label) for x in (real, fake)]

    real, fake = scores()
    expected = np.mean(real) - np.mean(fake)
    np.testing.assert_allclose(jax.jit(make_estimate(gan))(state, batch), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"batch\['label'\] is missing"):
        jax.eval_shape(make_estimate(gan), state, {"image": batch["image"]})


# --- samples ---


def test_samples_of_a_class():
    gan, state = somewhere("auxiliary")
    z = draws.sample_latents(KEY, jnp.arange(4), gan.latent_dim)

    def expected(*label):
        return gan.generator.apply(state.ema, z, jnp.array(label))

    np.testing.assert_allclose(wgan_jax.sample(gan, state, KEY, 4, label=3), expected(3, 3, 3, 3), atol=1e-6)
    np.testing.assert_allclose(wgan_jax.sample(gan, state, KEY, 4, label=[0, 9, 9, 1]), expected(0, 9, 9, 1), atol=1e-6)
    drawn = draws.sample_labels(KEY, jnp.arange(4), 10)
    np.testing.assert_allclose(wgan_jax.sample(gan, state, KEY, 4), expected(*drawn), atol=1e-6)
    assert np.abs(expected(0, 0, 0, 0) - expected(1, 1, 1, 1)).max() > 0.01


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (10, "label = 10: must be a class, from 0 to 9"),
        ([0, 9, -1, 12], "label = -1: must be a class, from 0 to 9"),
        ([0, 1], r"shape \(2,\): must be one class, or one for each of 4 examples"),
        (1.0, "label has type float64"),
    ],
)
def test_no_such_class(label, words):
    gan, state = somewhere("auxiliary")
    with pytest.raises(UserError, match=words):
        wgan_jax.sample(gan, state, KEY, 4, label=label)


def test_an_unconditional_gan_has_no_classes():
    gan = wgan_jax.build(tiny_config())
    state = wgan_jax.init_state(gan, KEY)
    with pytest.raises(UserError, match=r"label: this GAN was trained without classes"):
        wgan_jax.sample(gan, state, KEY, 4, label=3)


def test_an_image_does_not_depend_on_those_drawn_with_it():
    """Batch norm has running statistics in sampling, and those of the batch in training."""
    gan = wgan_jax.build(
        tiny_config(conditional__kind="auxiliary", generator__network="dcgan", generator__norm="batch")
    )
    state = wgan_jax.init_state(gan, KEY)

    def drawn(draw, seed):
        """The image of one latent and class, first among others."""
        rng = np.random.default_rng(seed)
        z, label = rng.normal(size=(16, gan.latent_dim)).astype(np.float32), rng.integers(10, size=16)
        z[0], label[0] = 1, 7
        return draw(z, label)[0]

    in_sampling = functools.partial(generate, gan, state)
    np.testing.assert_allclose(drawn(in_sampling, 2), drawn(in_sampling, 3), atol=1e-6)

    @jax.jit
    def in_training(z, label):
        return gan.generator.apply(state.ema, z, label, train=True, mutable=["batch_stats"])[0]

    assert np.abs(drawn(in_training, 2) - drawn(in_training, 3)).max() > 1e-3


# --- settings and data ---


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"data__name": "toy:swissroll", "data__size": 0, "data__channels": 2},
            "config.conditional.kind = 'auxiliary': toy:swissroll has no labels; use a data set with them, or 'none'",
        ),
        ({"conditional__classes": 7}, "config.conditional.classes = 7: digits has 10; use that number"),
    ],
)
def test_data_without_the_classes_are_refused(changes, words, tmp_path):
    config = tiny_config(conditional__kind="auxiliary", **changes)
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_and_what_is_made_of_it(tmp_path):
    workdir = tmp_path / "run"
    train(tiny_config(conditional__kind="auxiliary", report__best="critic_class_loss"), workdir)
    height, width, _ = pixels(workdir / "samples" / "0000012.png").shape
    assert height / width == (10 * 9 + 1) / (8 * 9 + 1)  # a row of 8 for each class

    result = evaluate(workdir)
    assert 0 <= result["class_agreement"] < 0.5
    assert result["real_class_agreement"] > 0.97

    out = tmp_path / "all.npz"
    done = run_here(command("sample", f"--workdir={workdir}", "--by_class", "--num=3", f"--out={out}"))
    assert done.returncode == 0, done.stderr
    gan, state = wgan_jax.restore(workdir)
    with np.load(out) as arrays:
        assert arrays["label"].tolist() == [label for label in range(10) for _ in range(3)]
        expected = wgan_jax.sample(gan, state, jax.random.key(0), 30, label=arrays["label"])
        np.testing.assert_array_equal(arrays["image"], expected)


def config_of(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config


def test_the_conditional_cifar_config_differs_by_its_classes_alone():
    lines = differences.of_settings(config_of("cifar10_resnet")(), config_of("cifar10_resnet")("auxiliary"))
    assert list(lines.values()) == ["config.conditional.kind: 'none' there, 'auxiliary' here"]


@pytest.mark.slow
def test_digits_are_of_the_class_that_is_asked_for(tmp_path):
    workdir = tmp_path / "run"
    config = f"--config={ROOT / 'configs' / 'digits.py:auxiliary'}"
    done = run(command("train", config, f"--workdir={workdir}", "--config.steps=2000"))
    assert done.returncode == 0, done.stderr
    done = run(command("evaluate", f"--workdir={workdir}", "--json"))
    assert json.loads(done.stdout)["class_agreement"] >= 0.9

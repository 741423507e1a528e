"""PyTorch, fed with a state's parameters and the draws of `draws.py`, walks the same trajectory.

With PyTorch in the environment (`pip install -e ".[compare]"`) the two run side by side:

    pytest -m slow tests/test_torch.py

Without it, wgan_jax is held against what PyTorch gave when `python -m tests.test_torch` last wrote it down.

The error of an array is ‖ours − theirs‖₂ / ‖theirs‖₂. One thing is left out of it: a parameter whose gradient is zero
but for rounding, such as a bias that a batch norm takes away again. Adam and RMSProp divide that gradient by its own
size, and so move the parameter by noise, in any framework, without effect on what the network computes.
"""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wgan_jax
from wgan_jax.method import draws

from .conftest import tiny_config

STEPS, N_CRITIC, BATCH, LATENT, WIDTH, SHAPE = 3, 5, 8, 8, 4, (32, 32, 3)
RECORD = pathlib.Path(__file__).with_name("torch_trajectories.npz")
NOISE = 1e-5
"""A gradient this much smaller than its network's largest is rounding."""

CASES = [
    # network, constraint, norm of the generator, norm of the critic
    ("dcgan", "gradient_penalty", "batch", "none"),
    ("resnet", "clip", "batch", "none"),
    ("dcgan", "clip", "batch", "none"),
    ("resnet", "gradient_penalty", "batch", "none"),
    ("dcgan", "gradient_penalty", "none", "layer"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=" ".join)
pytestmark = pytest.mark.slow  # each case compiles a step


def config_of(case):
    network, constraint, generator_norm, critic_norm = case
    config = tiny_config(
        batch_size=BATCH,
        n_critic=N_CRITIC,
        latent_dim=LATENT,
        data__size=SHAPE[0],
        data__channels=SHAPE[2],
        generator__network=network,
        critic__network=network,
        constraint__kind=constraint,
        generator__norm=generator_norm,
        critic__norm=critic_norm,
    )
    for player in (config.generator, config.critic):
        player.width = WIDTH
        if network == "resnet":
            player.activation = "relu"
        if constraint == "clip":
            player.optimizer.name, player.optimizer.learning_rate = "rmsprop", 5e-5
    return config


def numpy_arrays(state):
    return {name: np.asarray(x) for name, x in wgan_jax.named_arrays(state).items() if name != "key"}


@functools.cache
def ours(case):
    """Arrays before and after, and for each step what went in and the metrics that came out."""
    config = config_of(case)
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(0))
    train_step = jax.jit(wgan_jax.make_train_step(gan))
    before, steps = numpy_arrays(state), []
    rng = np.random.RandomState(0)
    index, updates = jnp.arange(BATCH), range(N_CRITIC)
    for step in range(STEPS):
        fed = {
            "real": rng.uniform(-1, 1, size=(N_CRITIC, BATCH, *SHAPE)).astype(np.float32),
            "critic_latents": np.stack([draws.critic_latents(state.key, step, k, index, LATENT) for k in updates]),
            "epsilon": np.stack([draws.epsilon(state.key, step, k, index) for k in updates]),
            "generator_latents": np.asarray(draws.generator_latents(state.key, step, index, LATENT)),
        }
        state, metrics = train_step(state, {"image": fed["real"]})
        steps.append((fed, metrics))
    return before, numpy_arrays(state), steps


def theirs(case):
    """The arrays after the steps, and each step's metrics, of PyTorch."""
    import torch

    from . import torch_reference as reference

    network, constraint, generator_norm, critic_norm = case
    before, _, steps = ours(case)
    gan = reference.build(
        network,
        SHAPE,
        latent_dim=LATENT,
        width=WIDTH,
        constraint=constraint,
        generator_norm=generator_norm,
        critic_norm=critic_norm,
    )
    reference.load(gan, before)
    metrics = []
    for fed, _ in steps:
        tensors = {name: torch.from_numpy(np.array(x)) for name, x in fed.items()}
        tensors["real"] = reference.to_torch(fed["real"])
        metrics.append({name: float(x) for name, x in reference.train_step(gan, **tensors).items()})
    return reference.arrays(gan, before), metrics


def error(name, ours, theirs):
    """The relative error of an array, over the elements whose gradients are more than rounding, and their share."""
    player = {"ema": "generator"}.get(name.split("/")[0], name.split("/")[0])
    squares = f"{player}/opt_state/0/nu/"
    moments = ours.get(squares + name.partition("/params/")[2])
    moved = np.ones(ours[name].shape, bool)
    if moments is not None:
        moved = moments > NOISE**2 * max(x.max() for key, x in ours.items() if key.startswith(squares))
    difference, size = (np.linalg.norm(x[moved]) for x in (ours[name] - theirs[name], theirs[name]))
    return difference / size if difference else 0.0, moved.mean()


def assert_followed(case, expected):
    before, after, _ = ours(case)
    assert {name for name in after if re.match("(critic|generator)/variables/", name)} <= expected.keys()
    far = {}
    for name, array in expected.items():
        relative, moved = error(name, after, expected)
        if "/params/" in name and relative >= 1e-4:
            far[name] = relative
        # Running means hold the biases that noise has moved.
        assert relative < 1e-2, name
        if moved < 0.9:
            assert name.endswith("bias"), name
            assert np.abs(array - before[name]).max() < 5e-3, name
    # A ReLU whose input is zero but for rounding may be open here and shut there: a step in all gradients behind it.
    assert len(far) < len(expected) / 4, far


@every_case
def test_pytorch_walks_the_same_trajectory(case):
    pytest.importorskip("torch", reason='PyTorch is not here: pip install -e ".[compare]"')
    expected, metrics = theirs(case)
    assert_followed(case, expected)
    for (_, got), wanted in zip(ours(case)[2], metrics, strict=True):
        for name, value in wanted.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@every_case
def test_the_trajectory_that_pytorch_gave(case):
    with np.load(RECORD) as record:
        prefix = " ".join(case) + "/"
        expected = {name.removeprefix(prefix): record[name] for name in record if name.startswith(prefix)}
    assert_followed(case, expected)


def main():
    """Writes down PyTorch's trajectories, and prints the errors against ours."""
    record = {}
    for case in CASES:
        expected, _ = theirs(case)
        record |= {f"{' '.join(case)}/{name}": x for name, x in expected.items() if not name.startswith("ema/")}
        found = {name: error(name, ours(case)[1], expected) for name in expected}
        worst = max((name for name in found if "/params/" in name), key=lambda name: found[name][0])
        print(f"{', '.join(case)}: largest error {found[worst][0]:.1e}, of {worst}")
    np.savez_compressed(RECORD, **record)


if __name__ == "__main__":
    main()

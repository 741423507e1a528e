"""Trains recipes on Fashion-MNIST and measures them on the way: where the table of `docs/constraints.md` comes from.

    python tools/search_recipes.py --out=runs/search                  # every recipe, about 8 minutes on a large GPU
    python tools/search_recipes.py --out=runs/search --only=gp1,r1_1  # some of them

Each recipe trains for as many iterations as 15 minutes of two CPU cores are worth by its arithmetic, and is measured
after a sixth, a third and two thirds of them too. The measure is a Fréchet distance between 10,000 samples and 10,000
training images, in the features of a small classifier that is trained here first; real images against real ones are
the floor. Training data alone choose nothing: samples are compared with training images, as in a Fréchet distance
everywhere, and numbers for a README are measured by `python -m wgan_jax.evaluate`. Batches are drawn on the device,
with replacement. Several processes may share the work: each takes the next recipe that nobody has.

It writes OUT/results.jsonl, a line for each recipe, and OUT/NAME.npy with 64 samples.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import wgan_jax
from wgan_jax import data
from wgan_jax.config import check, default
from wgan_jax.data import fixed_subset
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.step import make_train_step
from wgan_jax.metrics import frechet_distance, moments, sets
from wgan_jax.networks.convolution import conv

MEASURED = 10_000
SHIPPED_ITERATIONS = 1_440
"""Iterations of the recipe `paper` in 15 minutes of two CPU cores."""
CALL = 250
"""Iterations in one compiled call."""


def recipe(width=32, norm="batch", cnorm="none", lr=1e-3, b1=0.5, b2=0.9, kernel=5, **more):
    """Returns changes of the default settings. Double underscores in further names stand for dots."""
    changes = {
        "n_critic": 1,
        "batch_size": 64,
        "data.name": "tfds:fashion_mnist",
        "data.size": 28,
        "data.channels": 1,
    }
    network = more.pop("network", "dcgan")
    for player, kind in (("generator", norm), ("critic", cnorm)):
        changes |= {
            f"{player}.network": network,
            f"{player}.width": width,
            f"{player}.norm": kind,
            f"{player}.optimizer.learning_rate": lr,
            f"{player}.optimizer.b1": b1,
            f"{player}.optimizer.b2": b2,
        }
        if network == "dcgan":
            changes[f"{player}.kernel_size"] = kernel
    return changes | {name.replace("__", "."): value for name, value in more.items()}


HINGE = {"game": "hinge", "constraint__kind": "spectral_norm", "b1": 0.0}


def r1(gamma, every=8, game="non_saturating"):
    return {
        "game": game,
        "constraint__kind": "r1",
        "constraint__gamma": gamma,
        "constraint__every": every,
        "b1": 0.0,
    }


RECIPES = {
    "paper": recipe(norm="none", lr=2e-4, n_critic=5),
    "gp2": recipe(n_critic=2),
    "gp1": recipe(),
    "gp1_b0": recipe(b1=0.0),
    "gp1_b0_k4_projection": recipe(b1=0.0, kernel=4, conditional__kind="projection"),
    "gp1_layer_norm": recipe(cnorm="layer"),
    "gp1_lambda1": recipe(constraint__weight=1.0),
    "gp1_lambda1_lazy4": recipe(constraint__weight=1.0, constraint__every=4),
    "gp1_batch32": recipe(batch_size=32),
    "gp1_2e-3": recipe(lr=2e-3),
    "gp1_k4": recipe(kernel=4),
    "gp1_k3": recipe(kernel=3),
    "gp1_width48": recipe(width=48),
    "gp1_projection": recipe(conditional__kind="projection"),
    "sn1_2e-4": recipe(lr=2e-4, **HINGE),
    "sn1_5e-4": recipe(lr=5e-4, **HINGE),
    "sn1_1e-3": recipe(lr=1e-3, **HINGE),
    "sn1_b5": recipe(lr=5e-4, **HINGE | {"b1": 0.5}),
    "sn1_projection": recipe(lr=5e-4, conditional__kind="projection", **HINGE),
    "r1_.01": recipe(**r1(0.01)),
    "r1_.1": recipe(**r1(0.1)),
    "r1_1": recipe(**r1(1.0)),
    "r1_.1_least_squares": recipe(**r1(0.1, game="least_squares")),
    "resnet_r1": recipe(network="resnet", lr=5e-4, **r1(0.1)),
    "resnet_sn": recipe(network="resnet", lr=5e-4, **HINGE),
}


def cost(changes: dict[str, Any]) -> float:
    """Returns a rough arithmetic of an iteration, in iterations of the recipe `paper`."""
    critic, generator = (
        {3: 0.5, 4: 0.72, 5: 1.0}[changes.get(f"{player}.kernel_size", 5)]
        * (changes[f"{player}.width"] / 32) ** 1.8
        * (2.5 if changes[f"{player}.network"] == "resnet" else 1)
        for player in ("critic", "generator")
    )
    kind = changes.get("constraint.kind", "gradient_penalty")
    penalty = 0.5 if kind == "spectral_norm" else 6 / changes.get("constraint.every", 1)
    update = 6 * critic + generator + penalty * critic
    return (changes["n_critic"] * update + 3 * generator + 2 * critic) / 70 * (changes["batch_size"] / 64) ** 0.86


def milestones(changes: dict[str, Any], scale: float) -> list[int]:
    """Returns after how many iterations a recipe is measured, in whole calls."""
    total = scale * SHIPPED_ITERATIONS / cost(changes)
    return sorted({max(1, round(total * share / CALL)) * CALL for share in (1 / 6, 1 / 3, 2 / 3, 1)})


def features(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """Returns the 64 features of a small classifier: `[B, 28, 28, 1]` uint8 to `[B, 64]`."""
    x = images.astype(jnp.float32) / 127.5 - 1
    for name, stride in (("first", 1), ("second", 2), ("third", 2)):
        x = jax.nn.relu(conv(x, weights[name], (stride, stride)))
    return jax.nn.relu(x.reshape(len(x), -1) @ weights["hidden"])


def trained_classifier(images: np.ndarray, label: np.ndarray, epochs: int = 6) -> dict[str, jax.Array]:
    """Trains the classifier by Adam, in batches of 256."""
    shapes = {
        "first": (3, 3, 1, 32),
        "second": (3, 3, 32, 64),
        "third": (3, 3, 64, 64),
        "hidden": (7 * 7 * 64, 64),
        "last": (64, 10),
    }
    keys = jax.random.split(jax.random.key(0), len(shapes))
    weights = {
        name: jax.random.normal(key, shape) * (2 / np.prod(shape[:-1])) ** 0.5
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    batches = len(images) // 256
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, epochs * batches))
    opt_state = optimizer.init(weights)

    @jax.jit
    def update(weights, opt_state, x, y):
        def loss(weights):
            logits = features(weights, x) @ weights["last"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(weights), opt_state, weights)
        return optax.apply_updates(weights, updates), opt_state

    rng = np.random.default_rng(0)
    for _ in range(epochs):
        for rows in rng.permutation(len(images))[: batches * 256].reshape(batches, 256):
            weights, opt_state = update(weights, opt_state, images[rows], label[rows])
    return weights


def train(changes: dict[str, Any], stops: list[int], examples: dict[str, np.ndarray], measure) -> dict[str, Any]:
    """Trains a recipe; returns its measures, and the last 64 samples."""
    config = default()
    config.update_from_flattened_dict(changes)
    check(config)
    gan = wgan_jax.build(config)
    state = wgan_jax.init_state(gan, jax.random.key(config.seed))
    step = make_train_step(gan)
    on_device = {name: jnp.asarray(x) for name, x in examples.items() if name == "image" or gan.num_classes}
    num = len(examples["image"])

    def iteration(state, _):
        key = jax.random.fold_in(jax.random.key(7), state.step)
        rows = jax.random.randint(key, (config.n_critic, config.batch_size), 0, num)
        return step(state, {name: x[rows] for name, x in on_device.items()})

    call = jax.jit(lambda state: jax.lax.scan(iteration, state, None, length=CALL)[0], donate_argnums=0)
    one = Parallel(tuple(jax.devices()[:1]))
    samples = {name: sets.samples(gan, MEASURED, one, ema=name == "average") for name in ("average", "generator")}
    began, rows, done = time.monotonic(), [], 0
    for stop in stops:
        while done < stop:
            state, done = call(state), done + CALL
        found = {name: measure(of(state)) for name, of in samples.items()}
        rows.append({"iterations": done, "seconds": round(time.monotonic() - began, 1), **found})
    return {"rows": rows, "samples": np.asarray(samples["average"](state).read(np.arange(64)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(RECIPES), help="names of recipes, joined by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the 15 minutes")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    config = default()
    config.update_from_flattened_dict({"data.name": "tfds:fashion_mnist", "data.size": 28, "data.channels": 1})
    source, held_out = (data.load(config, split) for split in ("train", "held_out"))
    examples = source.read(np.arange(len(source)))
    weights = trained_classifier(examples["image"], examples["label"])
    embed = jax.jit(functools.partial(features, weights))

    def moments_of(read) -> Any:
        rows = [np.asarray(embed(read(np.arange(i, i + 500)))) for i in range(0, MEASURED, 500)]
        return moments(np.concatenate(rows))

    order = fixed_subset(source, MEASURED)
    real = moments_of(lambda index: examples["image"][order[index]])

    def distance(read) -> float:
        return round(frechet_distance(*real[1:], *moments_of(read)[1:]), 3)

    floor = distance(lambda index: held_out.read(index)["image"])
    for name in args.only.split(","):
        try:
            (args.out / f"{name}.taken").mkdir()
        except FileExistsError:
            continue
        changes = RECIPES[name]
        found = train(changes, milestones(changes, args.scale), examples, lambda images: distance(images.read))
        np.save(args.out / f"{name}.npy", found.pop("samples"))
        line = json.dumps({"name": name, "floor": floor, **found})
        print(line, flush=True)
        with (args.out / "results.jsonl").open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()

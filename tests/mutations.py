"""Shows that the tests find defects: each test of `test_defects.py` must fail in a copy that contains its defect.

    python -m tests.mutations [part of a test's name]

A mutation consists of a test, a file, a text that occurs exactly once in this file, and a text that replaces it. All
tests must pass in a copy without mutation. It is an error if a text is not found, if a test of `test_defects.py` has no
mutation, if a test passes although its defect is in the copy, or if it fails there for another reason than a failed
assertion.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
DEFECTS = "tests/test_defects.py"


class Mutation(NamedTuple):
    test: str
    file: str
    old: str
    new: str


MUTATIONS = [
    Mutation(
        "test_one_epsilon_for_the_whole_batch",
        "method/draws.py",
        "jax.random.uniform(key, (), jnp.float32))(keys)",
        "jax.random.uniform(key, (), jnp.float32))(jnp.repeat(keys[:1], len(keys)))",
    ),
    Mutation(
        "test_epsilon_per_pixel",
        "method/lipschitz.py",
        "epsilon = epsilon.reshape(epsilon.shape + (1,) * (real.ndim - 1))",
        "epsilon = jax.random.uniform(jax.random.key(0), real.shape)",
    ),
    Mutation(
        "test_epsilon_from_a_normal_distribution",
        "method/draws.py",
        "jax.random.uniform(key, (), jnp.float32)",
        "jax.random.normal(key, (), jnp.float32)",
    ),
    Mutation(
        "test_norm_over_one_axis_of_an_image_or_a_sequence",
        "method/lipschitz.py",
        "axis=tuple(range(1, gradient.ndim))",
        "axis=1",
    ),
    Mutation(
        "test_norm_over_the_whole_batch", "method/lipschitz.py", "axis=tuple(range(1, gradient.ndim))", "axis=None"
    ),
    Mutation(
        "test_nan_where_the_gradient_is_zero",
        "method/lipschitz.py",
        "jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)",
        "jnp.sqrt(squares)",
    ),
    Mutation("test_penalty_that_is_not_squared", "method/lipschitz.py", "jnp.mean(jnp.square(", "jnp.mean(jnp.abs("),
    Mutation(
        "test_lambda_of_the_toy_script_on_images",
        "method/constraints.py",
        "return weight * value",
        "return 0.1 * weight * value",
    ),
    Mutation(
        "test_lambda_of_the_toy_script_on_images",
        "config/settings.py",
        "c.constraint.weight = 10.0",
        "c.constraint.weight = 0.1",
    ),
    Mutation("test_penalty_computed_and_never_added", "method/objectives.py", "fake_scores) + term", "fake_scores)"),
    Mutation(
        "test_penalty_with_an_optimizer_step_of_its_own",
        "method/step.py",
        "updates, opt_state = optax",
        "_, opt_state = optax.with_extra_args_support(optimizer).update(slope, opt_state, params, step=step)\n"
        "    updates, opt_state = optax",
    ),
    Mutation(
        "test_batch_norm_in_a_critic_under_a_penalty",
        "config/check.py",
        'CONSTRAINTS[kind].each_example and c.critic.norm == "batch"',
        "False",
    ),
    Mutation(
        "test_the_penalty_alone_is_minimised",
        "method/objectives.py",
        "gan.game.critic_loss(real_scores, fake_scores) +",
        "jax.lax.stop_gradient(gan.game.critic_loss(real_scores, fake_scores)) +",
    ),
    Mutation("test_r1_without_its_half", "method/constraints.py", "where(real, fake))) / 2", "where(real, fake)))"),
    Mutation(
        "test_r1_summed_over_the_batch",
        "method/constraints.py",
        "jnp.mean(lipschitz.gradient_squares(",
        "jnp.sum(lipschitz.gradient_squares(",
    ),
    Mutation(
        "test_gradient_of_the_probability",
        "method/lipschitz.py",
        "jnp.sum(critic_fn(x))",
        "jnp.sum(jax.nn.sigmoid(critic_fn(x)))",
    ),
    Mutation(
        "test_dragans_alpha_per_pixel",
        "method/draws.py",
        "jax.random.uniform(share, (), jnp.float32)",
        "jax.random.uniform(share, shape, jnp.float32)",
    ),
    Mutation(
        "test_dragans_noise_of_one_number_for_each_example",
        "method/draws.py",
        "jax.random.uniform(noise, shape, jnp.float32)",
        "jax.random.uniform(noise, (), jnp.float32) * jnp.ones(shape)",
    ),
    Mutation(
        "test_dragans_noise_centred",
        "method/draws.py",
        "jax.random.uniform(noise, shape, jnp.float32)",
        "jax.random.uniform(noise, shape, jnp.float32, -1)",
    ),
    Mutation(
        "test_dragans_points_clipped",
        "method/constraints.py",
        "real + noise * draws.perturbation(*keys, real.shape[1:])",
        "jnp.clip(real + noise * draws.perturbation(*keys, real.shape[1:]), -1, 1)",
    ),
    Mutation("test_consistency_without_the_hidden_layer", "method/constraints.py", "FEATURES = 0.1", "FEATURES = 0.0"),
    Mutation(
        "test_consistency_that_is_not_squared",
        "method/constraints.py",
        "jnp.square(first - second)",
        "jnp.abs(first - second)",
    ),
    Mutation(
        "test_the_hinge_of_the_consistency_term_over_the_batch",
        "method/constraints.py",
        "jnp.mean(jnp.maximum(weight * apart - margin, 0.0))",
        "jnp.maximum(jnp.mean(weight * apart - margin), 0.0)",
    ),
    Mutation(
        "test_a_margin_that_turns_the_consistency_term_off",
        "config/settings.py",
        "c.constraint.consistency_margin = 0.0",
        "c.constraint.consistency_margin = 100.0",
    ),
    Mutation(
        "test_dropout_off_in_the_penalty",
        "method/objectives.py",
        "self._pass(x, CriticPass.PENALTY).value",
        "self.gan.score(self.critic, x, self.condition, train=True).value",
    ),
    Mutation(
        "test_u_moved_by_every_pass",
        "method/step.py",
        'return Player(statistics | {"params": params}, opt_state, constraint_state), metrics',
        "_, constraint_state = gan.constraint.weights(params, constraint_state)\n"
        '        return Player(statistics | {"params": params}, opt_state, constraint_state), metrics',
    ),
    Mutation(
        "test_weights_that_are_not_normalized_outside_training",
        "method/gan.py",
        "params, _ = self.constraint.weights(critic.params, critic.constraint)",
        "params, _ = self.constraint.weights(critic.params, critic.constraint) if train else (critic.params, ())",
    ),
    Mutation(
        "test_differentiated_through_the_power_step", "method/spectral.py", "w = jax.lax.stop_gradient(w)", "w = w * 1"
    ),
    Mutation(
        "test_another_matrix_of_the_kernel",
        "method/spectral.py",
        "kernel.reshape(-1, kernel.shape[-1])",
        "kernel.reshape(kernel.shape[-1], -1).T",
    ),
    Mutation("test_one_power_step_before_the_first_update", "method/spectral.py", "WARM_START = 100", "WARM_START = 1"),
    Mutation("test_no_epsilon_under_the_norms", "method/spectral.py", "EPSILON = 1e-12", "EPSILON = 0.0"),
    Mutation(
        "test_the_same_noise_for_all_critic_updates",
        "method/step.py",
        "here.of(Stream.CRITIC_LATENTS)",
        "here._replace(update=0).of(Stream.CRITIC_LATENTS)",
    ),
    Mutation(
        "test_the_same_real_batch_for_all_critic_updates",
        "method/step.py",
        "n_critic, batch_size = check_batch",
        "batch = jax.tree.map(lambda x: jnp.repeat(x[:1], len(x), 0), batch)\n"
        "        n_critic, batch_size = check_batch",
    ),
    Mutation(
        "test_the_same_real_batch_for_all_critic_updates",
        "data/batches.py",
        "source.read(index)",
        "source.read(np.tile(index[: len(index) // updates], updates))",
    ),
    Mutation(
        "test_the_same_key_for_latents_and_epsilon",
        "method/draws.py",
        "Stream.EPSILON, step, update, index",
        "Stream.CRITIC_LATENTS, step, update, index",
    ),
    Mutation(
        "test_the_generators_latents_reused_from_the_critic",
        "method/step.py",
        "here.of(Stream.GENERATOR_LATENTS)",
        "here.of(Stream.CRITIC_LATENTS)",
    ),
    Mutation(
        "test_the_generator_steps_on_every_nth_batch_only",
        "method/step.py",
        'metrics |= {"generator_grad_norm"',
        "params = jax.tree.map(lambda w, new: jnp.where(state.step % 5 == 0, new, w), generator.params, params)\n"
        '        metrics |= {"generator_grad_norm"',
    ),
    Mutation(
        "test_warm_up_configured_and_never_used",
        "config/build.py",
        "CriticSchedule(config.n_critic, config.warmup.n_critic, config.warmup.steps, config.warmup.every)",
        "CriticSchedule(config.n_critic)",
    ),
    Mutation(
        "test_warm_up_configured_and_never_used",
        "method/schedule.py",
        "return self.warmup if self.warmup and (step < self.warmup_steps or every) else self.n_critic",
        "return self.n_critic",
    ),
    Mutation(
        "test_bilinear_up_sampling",
        "networks/resnet.py",
        "jnp.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)",
        'jax.image.resize(x, (B, 2 * H, 2 * W, C), "bilinear")',
    ),
    Mutation(
        "test_bilinear_up_sampling",
        "networks/resnet.py",
        "y = input_gradient(x, kernel, (2 * x.shape[1], 2 * x.shape[2]), (2, 2))",
        'y = jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear")\n'
        '                y = conv(y, self.get_variable("params", "kernel"))',
    ),
    Mutation(
        "test_half_the_width",
        "networks/resnet.py",
        "enumerate(widths[1:], 1)",
        "enumerate([width // 2 for width in widths[1:]], 1)",
    ),
    Mutation("test_half_the_width", "networks/resnet.py", "multiple * self.width,", "multiple * self.width // 2,"),
]


def tests() -> list[str]:
    """Returns the names of the tests in `test_defects.py`."""
    return re.findall(r"^def (test_\w+)", (ROOT / DEFECTS).read_text(), re.MULTILINE)


def mutated(mutation: Mutation) -> str:
    """Returns the text of the mutated file.

    Raises:
      ValueError: if the text that the mutation replaces does not occur exactly once.
    """
    text = (ROOT / "wgan_jax" / mutation.file).read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.test}: {text.count(mutation.old)} times in {mutation.file}: {mutation.old}")
    return text.replace(mutation.old, mutation.new)


def copy(folder: pathlib.Path, mutation: Mutation | None) -> None:
    """Copies the package and its tests into a folder, and applies a mutation if there is one."""
    for name in ("wgan_jax", "tests", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", folder)
    if mutation:
        (folder / "wgan_jax" / mutation.file).write_text(mutated(mutation))


def pytest(folder: pathlib.Path, test: str) -> tuple[int, str]:
    """Runs a test of `test_defects.py` in a copy, or all of them for "". Returns exit code and output."""
    selected = f"{DEFECTS}::{test}" if test else DEFECTS
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", selected],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def complaint(mutation: Mutation | None) -> str:
    """Checks a mutation, or the tests without mutation for None. Returns what is wrong, or "" if nothing is."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy(folder, mutation)
        code, output = pytest(folder, mutation.test if mutation else "")
    if mutation is None:
        return f"a test fails without mutation:\n{output}" if code else ""
    title = f"{mutation.test}, mutated in {mutation.file}"
    if code == 0:
        return f"{title}: passes"
    if code != 1 or not re.search(r"^E +(assert|AssertionError|Failed: DID NOT RAISE)", output, re.MULTILINE):
        return f"{title}: fails for another reason than an assertion\n{output}"
    return ""


def check(part: str = "") -> list[str]:
    """Checks all mutations whose test's name contains `part`. Prints each result and returns the complaints."""
    chosen = [mutation for mutation in MUTATIONS if part in mutation.test]
    missing = sorted(set(tests()) ^ {mutation.test for mutation in MUTATIONS})
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = []
        for mutation, text in zip([None, *chosen], pool.map(complaint, [None, *chosen]), strict=True):
            title = f"{mutation.test}, {mutation.file}" if mutation else "all tests, without mutation"
            print("BAD " if text else "ok  ", title, flush=True)
            found += [text] * bool(text)
    return [f"{name}: only in the tests or only in the mutations" for name in missing] + found


if __name__ == "__main__":
    if complaints := check(*sys.argv[1:]):
        sys.exit("\n".join(complaints))
    print("Every test passes, and fails when its defect is put in.")

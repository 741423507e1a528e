import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from wgan_jax import UserError, data
from wgan_jax.data import ArraySource, batches, digits, toy
from wgan_jax.method.schedule import CriticSchedule, segments
from wgan_jax.metrics.estimate import fixed_set

from .conftest import tiny_config


def test_the_digits_are_split_once_for_all():
    train, held_out = digits.load("train"), digits.load("held_out")
    assert (len(train), len(held_out)) == (1297, 500)
    every = np.concatenate([source.examples["image"] for source in (train, held_out)]).reshape(-1, 64)
    original = load_digits().data / 8 - 1
    assert sorted(map(tuple, every)) == sorted(map(tuple, original.astype(np.float32)))
    assert every.min() == -1
    assert every.max() == 1
    assert set(train.examples["label"]) == set(range(10))


def test_labels_belong_to_their_images():
    original = {tuple(image): label for image, label in zip(*load_digits(return_X_y=True), strict=True)}
    examples = digits.load("held_out").read(np.arange(50))
    for image, label in zip((examples["image"].reshape(50, 64) + 1) * 8, examples["label"], strict=True):
        assert original[tuple(image)] == label


def test_eight_gaussians_lie_on_their_circle():
    points = toy.load("8gaussians", "train").examples["image"] * 1.414
    angle = np.arctan2(points[:, 1], points[:, 0])
    nearest = np.round(angle / (np.pi / 4)) * np.pi / 4
    offsets = points - 2 * np.stack([np.cos(nearest), np.sin(nearest)], axis=1)
    assert set(np.round(angle / (np.pi / 4)).astype(int) % 8) == set(range(8))
    np.testing.assert_allclose(offsets.std(axis=0), 0.02, rtol=0.03)
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=5e-4)


def test_twenty_five_gaussians_lie_on_their_grid():
    points = toy.load("25gaussians", "train").examples["image"] * 2.828
    centers = 2 * np.round(points / 2)
    assert {tuple(center) for center in centers} == {(2.0 * i, 2.0 * j) for i in range(-2, 3) for j in range(-2, 3)}
    np.testing.assert_allclose((points - centers).std(axis=0), 0.05, rtol=0.03)


def test_the_swiss_roll_has_its_spiral():
    """Radius and angle of a point are one parameter t, up to the noise: (t cos t, t sin t) for t in [1.5π, 4.5π]."""
    points = toy.load("swissroll", "held_out").examples["image"].astype(np.float64) * 7.5
    t = np.linspace(1.5 * np.pi, 4.5 * np.pi, 4_000)
    curve = np.stack([t * np.cos(t), t * np.sin(t)], axis=1)
    distance = np.linalg.norm(points[:500, None] - curve, axis=2).min(axis=1)
    np.testing.assert_allclose(np.sqrt(np.mean(distance**2)), 0.25, rtol=0.15)


@pytest.mark.parametrize("name", toy.DISTRIBUTIONS)
def test_toy_points_are_the_same_in_every_run(name):
    points = toy.load(name, "train").examples["image"]
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, toy.load(name, "train").examples["image"])
    assert not set(map(tuple, points)) & set(map(tuple, toy.load(name, "held_out").examples["image"]))


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 100), st.integers(0, 80))
def test_order_visits_each_example_once_an_epoch(length, seed, start, more):
    index = batches.order(length, seed, start, start + more)
    np.testing.assert_array_equal(index, batches.order(length, seed, 0, start + more)[start:])
    epoch = batches.order(length, seed, 3 * length, 4 * length)
    assert sorted(epoch) == list(range(length))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(batches.order(50, seed, epoch * 50, epoch * 50 + 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


SOURCE = ArraySource(np.arange(10.0, dtype=np.float32)[:, None], np.arange(10))
WARM = CriticSchedule(2, 5, 2, 4)


def run(steps=12, seed=1):
    return batches.dataset(SOURCE, WARM, seed=seed, batch_size=3, steps=steps)


def test_every_critic_update_takes_the_next_examples():
    whole = np.concatenate([run()[step]["image"].ravel() for step in range(12)])
    assert [len(run()[step]["image"]) for step in range(6)] == [5, 5, 2, 2, 5, 2]
    for epoch in range(len(whole) // 10):
        assert sorted(whole[10 * epoch : 10 * epoch + 10]) == list(range(10))


def test_labels_come_along():
    batch = run()[7]
    assert batch["image"].shape == (2, 3, 1)
    assert batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["image"][..., 0], batch["label"])


def test_a_batch_is_a_function_of_seed_and_step():
    np.testing.assert_array_equal(run()[9]["image"], run(steps=40)[9]["image"])
    assert not np.array_equal(run()[9]["image"], run(seed=2)[9]["image"])


@settings(max_examples=40)
@given(
    length=st.integers(1, 40),
    share=st.integers(1, 7),
    hosts=st.integers(1, 5),
    seed=st.integers(0, 9),
    schedule=st.sampled_from([WARM, CriticSchedule(1), CriticSchedule(3)]),
)
def test_the_rows_of_all_hosts_joined_are_the_batch_of_one(length, share, hosts, seed, schedule):
    """Also where a batch holds the end of an epoch, or several: lengths are down to 1."""
    source = ArraySource(np.arange(length, dtype=np.float32)[:, None], np.arange(length))
    common = {"seed": seed, "batch_size": share * hosts, "steps": 6}
    whole = batches.dataset(source, schedule, **common)
    parts = [batches.dataset(source, schedule, **common, host=host, hosts=hosts) for host in range(hosts)]
    seen = []
    for step in range(6):
        for name in ("image", "label"):
            rows = [part[step][name] for part in parts]
            assert all(row.shape[:2] == (schedule.updates(step), share) for row in rows)
            np.testing.assert_array_equal(np.concatenate(rows, axis=1), whole[step][name])
        seen += whole[step]["label"].ravel().tolist()
    for start in range(0, len(seen) - length + 1, length):
        assert sorted(seen[start : start + length]) == list(range(length))


def test_a_host_reads_no_others_rows():
    read = []

    class Watched(ArraySource):
        def read(self, index):
            read.extend(index.tolist())
            return super().read(index)

    source = Watched(np.arange(100.0, dtype=np.float32)[:, None])
    for host in range(2):
        _ = batches.dataset(source, WARM, seed=0, batch_size=10, steps=3, host=host, hosts=2)[0]
    assert len(read) == len(set(read)) == WARM.updates(0) * 10


def test_hosts_that_cannot_share_a_batch():
    with pytest.raises(UserError, match=r"config\.batch_size = 10: must be divisible by the number of hosts, 3"):
        batches.dataset(SOURCE, WARM, seed=0, batch_size=10, steps=3, hosts=3)


def test_batches_are_placed_ahead():
    placed = list(batches.prefetch(run(), jax.device_put))
    assert all(isinstance(batch["image"], jax.Array) for batch in placed)
    for step, batch in enumerate(placed):
        np.testing.assert_array_equal(batch["image"], run()[step]["image"])


@pytest.mark.parametrize("start", [0, 5])
def test_read_ahead_gives_the_same_batches(start):
    plan = list(segments(start, 12, 3, WARM, (4,)))
    stacked = batches.stack(run(), plan, 3)
    for (first, stop), batch in zip(plan, batches.prefetch(stacked), strict=True):
        for i in range(3):
            expected = run()[first + i]["image"] if first + i < stop else np.zeros_like(batch["image"][i])
            np.testing.assert_array_equal(batch["image"][i], expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data__name": "digit"}, "did you mean digits?"),
        ({"data__name": "toy:swiss"}, "did you mean toy:swissroll?"),
        ({"data__name": "tfds:"}, "known: digits, "),
        ({"data__size": 16}, "digits needs 8 and 1"),
        ({"data__name": "toy:swissroll"}, "toy:swissroll needs 0 and 2"),
    ],
)
def test_data_that_cannot_be(changes, words):
    with pytest.raises(UserError, match=r"config\.data") as error:
        data.load(tiny_config(**changes), "train")
    assert words in str(error.value)


def sorted_by_class(num=1_000):
    label = np.arange(num) // (num // 10)
    return ArraySource(np.arange(num, dtype=np.float32)[:, None], label, num_classes=10)


def test_a_fixed_subset_stands_for_data_that_are_sorted_by_class():
    """Of each class a tenth; the hypergeometric σ is 2.9 for 100 of 1,000."""
    source = sorted_by_class()
    index = data.fixed_subset(source, 100)
    assert len(set(index)) == 100
    counts = np.bincount(source.read(index)["label"], minlength=10)
    assert (np.abs(counts - 10) < 9).all()
    np.testing.assert_array_equal(data.fixed_subset(sorted_by_class(), 100), index)
    np.testing.assert_array_equal(data.fixed_subset(source, 10), index[:10])
    assert sorted(data.fixed_subset(source, 5_000)) == list(range(1_000))


def test_the_fixed_set_is_a_fixed_subset():
    source = sorted_by_class()
    fixed = fixed_set(source)
    assert fixed["image"].shape == (4, 128, 1)
    np.testing.assert_array_equal(fixed["image"].ravel(), data.fixed_subset(source, 512))
    assert set(fixed["label"].ravel()) == set(range(10))


def test_a_fingerprint_tells_arrays_apart():
    image, label = np.zeros((6, 2), np.float32), np.arange(6) % 2
    same, other = image.copy(), image.copy()
    other[5, 1] = 1e-30
    held_out = ArraySource(image[:2])
    known = data.fingerprint(ArraySource(image, label, 2), held_out)
    assert json.loads(json.dumps(known)) == known
    assert (known["train"]["examples"], known["held_out"]["examples"]) == (6, 2)
    assert known == data.fingerprint(ArraySource(same, label, 2), held_out)
    for source in (ArraySource(other, label, 2), ArraySource(image, 1 - label, 2), ArraySource(image)):
        found = data.fingerprint(source, held_out)
        assert found["train"]["digest"] != known["train"]["digest"]
        assert found["held_out"] == known["held_out"]


@pytest.mark.parametrize("name", ["digits", "toy:8gaussians"])
def test_a_fingerprint_is_the_same_in_every_run(name):
    size = {"data__size": 0, "data__channels": 2} if name != "digits" else {}
    runs = [
        data.fingerprint(
            *(data.load(tiny_config(data__name=name, seed=seed, **size), s) for s in ("train", "held_out"))
        )
        for seed in (0, 1)
    ]
    assert runs[0] == runs[1]
    assert runs[0]["train"]["digest"] != runs[0]["held_out"]["digest"]

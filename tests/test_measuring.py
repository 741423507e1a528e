"""Metrics of whole sets: in batches, shared by devices and hosts, kept for the next time, each with its floor."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import wgan_jax
from wgan_jax import UserError, metrics
from wgan_jax.data import ArraySource
from wgan_jax.devices.mesh import Parallel
from wgan_jax.method.batch import to_uint8
from wgan_jax.metrics import choosing, sets
from wgan_jax.metrics.evaluation import Wishes, evaluate_images
from wgan_jax.metrics.kept import Rows
from wgan_jax.metrics.measuring import Measurer
from wgan_jax.metrics.scores import METRICS
from wgan_jax.run.statistics import StatisticsFiles

from . import measured
from .commands import ROOT
from .conftest import tiny_config
from .measured import NUM, ROWS, UNSEEN, images, on, tiny
from .test_parallel import devices_environment, end, free_port

ONE = Parallel(tuple(jax.devices()[:1]))


def features(bytes_):
    network, variables = tiny()
    return {name: np.asarray(x) for name, x in network.apply(variables, bytes_).items()}


@pytest.fixture(scope="module")
def numbers():
    return on(ONE)


@pytest.fixture(scope="module")
def samples():
    """The samples that `measured.on` measures, by way of the sampler and a picture's bytes."""
    gan = wgan_jax.build(tiny_config())
    state = wgan_jax.init_state(gan, jax.random.key(3))
    return to_uint8(wgan_jax.sample(gan, state, jax.random.key(0), NUM))


def test_what_streams_in_batches_is_what_the_whole_set_gives(numbers, samples):
    """Every number by its pure function, of all features at once; the samples are the sampler's, as bytes."""
    real, fake, unseen = (features(x) for x in (images(NUM, 1), samples, images(UNSEEN, 2)))
    moments = [metrics.moments(x["pool"]) for x in (real, fake, unseen)]

    def distance(other):
        return metrics.frechet_distance(*moments[0][1:], *other[1:])

    assert numbers["fid"]["value"] == pytest.approx(distance(moments[1]), rel=1e-6)
    assert numbers["fid"]["floor"] == pytest.approx(distance(moments[2]), rel=1e-6)
    first = metrics.moments(fake["pool"][:UNSEEN])
    assert numbers["fid"]["value_at_floor_num"] == pytest.approx(distance(first), rel=1e-6)
    expected = metrics.inception_score(fake["probabilities"]).mean
    assert numbers["inception_score"]["value"] == pytest.approx(expected, rel=1e-6)
    precision, recall = metrics.precision_recall(real["pool"], fake["pool"])
    assert (numbers["precision"]["value"], numbers["recall"]["value"]) == pytest.approx((precision, recall))
    kernel = metrics.kernel_distance(fake["pool"], real["pool"], subset_size=NUM).value
    assert numbers["kid"]["value"] == pytest.approx(kernel, rel=1e-6)
    expected = metrics.nearest_neighbour_accuracy(samples, images(NUM, 1))
    assert numbers["nearest_neighbour_accuracy"]["value"] == expected


def test_a_number_says_how_it_came_about(numbers):
    entry = numbers["fid"]
    assert entry["num"] == NUM
    assert entry["reference_num"] == NUM
    assert entry["floor_num"] == UNSEEN
    assert entry["features"] == "tiny"
    assert numbers["ms_ssim"]["features"] == "pixels"
    assert "note" not in entry
    assert "subsets of 40 images" in numbers["kid"]["note"]


def test_too_few_images_for_a_covariance_are_said_and_give_a_number():
    few = {"fid": ROWS["fid"]}
    measurer = Measurer(few, {"tiny": tiny(dim=50)}, ONE)
    reference, other = (sets.real(ArraySource(images(30, seed)), np.arange(30), ONE) for seed in (1, 2))
    entry = measured.score(measurer, reference, other, None)["fid"]
    assert np.isfinite(entry["value"])
    assert entry["note"].startswith("30 images are too few for a covariance of 50 features")
    assert entry["floor"] is None


def measure_in(out, *processes, devices):
    """The numbers that processes find, each with some devices and further arguments, as one run."""
    command = [sys.executable, "-m", "tests.measured", str(out)]
    options = {"cwd": ROOT, "env": devices_environment(devices), "stderr": subprocess.PIPE, "text": True}
    end(*(subprocess.Popen([*command, *more], **options) for more in processes))
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    return measure_in(tmp_path_factory.mktemp("devices") / "found.json", [], devices=8)


def test_eight_devices_give_the_numbers_of_one(devices, numbers):
    assert_same(devices["8"], devices["1"], rel=1e-9)
    assert_same(devices["8"], numbers, rel=1e-4)  # this process optimizes its programs


@pytest.mark.slow
def test_two_hosts_give_the_numbers_of_one_device(tmp_path, devices):
    address = f"localhost:{free_port()}"
    found = measure_in(tmp_path / "found.json", *([address, "2", str(i)] for i in range(2)), devices=2)
    assert_same(found["hosts"], devices["1"], rel=1e-6)


def assert_same(found, expected, rel):
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        for part in ("value", "floor", "value_at_floor_num"):
            assert found[name][part] == pytest.approx(entry[part], rel=rel), (name, part)


def test_statistics_of_real_images_are_kept_and_those_of_samples_are_not(tmp_path, numbers, monkeypatch):
    files = StatisticsFiles(tmp_path / "statistics")
    on(ONE, files)
    kept = set(files)
    assert kept
    read = []
    original = sets.real

    def watched(*args):
        found = original(*args)

        def watch(rows):
            read.append(rows)
            return found.read(rows)

        return found._replace(read=watch)

    monkeypatch.setattr(measured.sets, "real", watched)
    pixels = {name: row for name, row in ROWS.items() if row.network == "pixels"}
    monkeypatch.setattr(measured, "ROWS", {name: row for name, row in ROWS.items() if name not in pixels})
    again = on(ONE, files)
    assert not read
    assert set(files) == kept
    for name, entry in again.items():
        assert entry == numbers[name]


def without_end(content):
    return content[: len(content) // 2]


def of_an_unknown_method(content):
    place = content.index(b"PK\x01\x02") + 10
    return content[:place] + b"\x63" + content[place + 1 :]


def encrypted(content):
    place = content.index(b"PK\x01\x02") + 8
    return content[:place] + b"\x01" + content[place + 1 :]


@pytest.mark.parametrize("damage", [lambda content: b"", without_end, of_an_unknown_method, encrypted])
def test_damaged_statistics_are_made_anew(tmp_path, numbers, damage):
    files = StatisticsFiles(tmp_path)
    on(ONE, files)
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(damage(path.read_bytes()))
    assert on(ONE, files) == numbers
    assert all(np.load(path) for path in tmp_path.glob("*.npz"))


def test_statistics_belong_to_their_images_network_and_count(tmp_path):
    """Another order, another subset, another network or another count is another key."""
    source = ArraySource(images(NUM, 1))
    network, variables = tiny()
    files = StatisticsFiles(tmp_path)

    def keep(index, num, name="tiny"):
        measurer = Measurer(
            {"fid": ROWS["fid"]},
            {"tiny": (network.__class__(name, 6, 8, "", network.apply), variables)},
            ONE,
            statistics=files,
        )
        measurer.keep(sets.real(source, index, ONE), [num])
        return len(files)

    index = np.arange(NUM)
    assert [keep(index, NUM), keep(index, NUM), keep(index[::-1], NUM), keep(index, 50), keep(index, 50, "other")] == [
        *(1, 1, 2, 3, 4)
    ]


def test_memory_does_not_grow_with_the_count_for_moments_and_scores():
    """What is kept has one size for any number of images; only rows grow."""
    for name, row in ROWS.items():
        kept = []
        for num in (64, 640):
            one = row.kept(num)
            for start in range(0, num, 32):
                one.add(np.arange(start, start + 32), np.full((32, 6), 1 / 6, np.float32))
            kept.append(sum(x.nbytes for x in one.join().values()))
        assert (kept[0] == kept[1]) == (row.kept is not Rows), name


def test_two_sets_of_images_without_a_run(capsys):
    """Halves of a large reference give the floor; a set against itself is at distance 0."""
    wishes = Wishes(metrics=("nearest_neighbour_accuracy", "ms_ssim"))
    reference, others = ArraySource(images(60, 1)), ArraySource(images(20, 2))
    found = evaluate_images(others, reference, wishes)
    assert found["nearest_neighbour_accuracy"]["num"] == found["nearest_neighbour_accuracy"]["reference_num"] == 20
    assert 0.2 < found["nearest_neighbour_accuracy"]["floor"] < 0.8
    assert evaluate_images(others, ArraySource(images(30, 1)), wishes)["ms_ssim"]["floor"] is None
    assert (
        "no floor: it is of 20 images of --reference beside its first 20, and there are 30" in capsys.readouterr().err
    )
    assert evaluate_images(others, others, wishes)["nearest_neighbour_accuracy"]["value"] < 0.1  # copies


@pytest.mark.parametrize(("num", "reference_num"), [(20, 12), (12, 20)])
def test_a_metric_of_equal_numbers_says_how_many_it_took(num, reference_num):
    table = {name: METRICS[name] for name in ("nearest_neighbour_accuracy", "ms_ssim")}
    given = ArraySource(images(20, 2)), ArraySource(images(40, 1))
    found = evaluate_images(*given, Wishes(table=table, num=num, reference_num=reference_num))
    equal = evaluate_images(*given, Wishes(table=table, num=12, reference_num=12))
    assert [found["ms_ssim"][name] for name in ("num", "reference_num")] == [num, reference_num]
    entry = found["nearest_neighbour_accuracy"]
    assert (entry["num"], entry["reference_num"]) == (12, 12)
    assert entry["value"] == equal["nearest_neighbour_accuracy"]["value"]
    assert "floor_num" not in entry


def test_grey_is_three_equal_channels(numbers):
    """In the input of every network, so that a grey set and its RGB copy have the same features."""
    grey = images(4, 3, (16, 16, 1))
    for name, path in metrics_inputs().items():
        assert np.array_equal(np.asarray(path(grey)), np.asarray(path(np.repeat(grey, 3, axis=-1)))), name


def test_a_grey_set_beside_an_rgb_one():
    grey, rgb = (ArraySource(np.repeat(images(20, 3), channels, axis=-1)) for channels in (1, 3))
    real = ArraySource(images(40, 4, (8, 8, 3)))
    wishes = Wishes(metrics=("nearest_neighbour_accuracy", "ms_ssim"))
    assert evaluate_images(grey, real, wishes) == evaluate_images(rgb, real, wishes)
    assert evaluate_images(real, grey, wishes) == evaluate_images(real, rgb, wishes)


def metrics_inputs():
    from wgan_jax.metrics import resizing

    return resizing.INPUTS | {"lite0": resizing.lite0}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: choosing.check_names(["fd_lite"], "--metrics"),
            "--metrics: there is no metric 'fd_lite'; did you mean fd_lite0",
        ),
        (
            lambda: choosing.rows(["sliced_wasserstein"], (8, 8, 1), 100, "--metrics"),
            "--metrics: sliced_wasserstein has no value: images of 8×8 pixels, and its smallest level has 16",
        ),
        (
            lambda: choosing.rows(["precision_recall"], (8, 8, 1), 3, "--metrics"),
            "3 images, and at least 4 are needed",
        ),
        (lambda: choosing.rows(["fid"], (2,), 100, "--metrics"), "metrics compare images"),
        (
            lambda: evaluate_images(ArraySource(images(20, 1)), ArraySource(images(20, 1, (16, 16, 1))), Wishes()),
            "images of 8×8 and 16×16: --images and --reference must have one size",
        ),
        (
            lambda: evaluate_images(ArraySource(images(20, 1)), ArraySource(images(20, 1)), Wishes(num=50)),
            "--num=50: there are 20 images",
        ),
        (
            lambda: evaluate_images(ArraySource(images(20, 1)), ArraySource(images(20, 1)), Wishes(reference_num=50)),
            "--reference_num=50: there are 20 images",
        ),
        (
            lambda: evaluate_images(ArraySource(images(20, 1)), ArraySource(images(20, 1)), Wishes(metrics=("afd",))),
            "--metrics: afd has no value: it needs --cascade=FILE.xml",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(call, words):
    with pytest.raises(UserError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_all_leaves_out_what_does_not_suit_and_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WGAN_JAX_INCEPTION", str(tmp_path / "nothing.pth"))
    table = {name: METRICS[name] for name in ("fid", "sliced_wasserstein", "ms_ssim")}
    source = ArraySource(images(20, 1))
    for wished in (("all",), ("ms_ssim", "all", "all")):
        found = evaluate_images(source, source, Wishes(metrics=wished, table=table))
        assert found.keys() == {"ms_ssim"}
    said = capsys.readouterr().err
    assert "sliced_wasserstein is left out: images of 8×8 pixels" in said
    assert "fid: left out:" in said
    assert "afd is left out: it needs --cascade" in said

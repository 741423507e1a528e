"""What each experiment demands of its numbers: the right program's meet it, each wrong program's do not."""

import dataclasses

import numpy as np
import pytest

from wgan_jax.experiments import (
    constraints,
    gradient_norms,
    harness,
    meaningful_loss,
    overfitting,
    parallel_lines,
    robustness,
    value_surfaces,
    weights,
)


def broken(criteria):
    """The places of the demands that are not met."""
    return [place for place, met in enumerate(criteria.values()) if not met]


def test_a_claim_holds_if_every_demand_is_met():
    result = harness.Result({}, None, "", "it is so", {"large": True, "small": True})
    assert result.holds
    assert result.sentence == "it is so: these numbers support it."
    result = dataclasses.replace(result, criteria={"large": True, "small": False, "round": False})
    assert not result.holds
    assert result.sentence == "it is so: these numbers do not support it (not met: small; round)."


# value_surfaces


def surfaces(penalised, clipped=(30.0, 0.6)):
    """Two distributions, with (estimate over W₁, the same over the steepest slope) of either critic."""
    numbers = {
        kind: dict(zip(("ratio", "explained"), pair, strict=True))
        for kind, pair in (("penalised", penalised), ("clipped", clipped))
    }
    return {"8gaussians": numbers, "swissroll": numbers}


@pytest.mark.parametrize(
    ("penalised", "wrong"),
    [
        ((0.95, 0.8), []),
        ((1.9, 0.8), [1]),  # a slope of 2
        ((40.0, 0.8), [1]),  # no constraint
        ((0.95, 1.2), [0]),  # a slope measured too small
        ((-0.95, -0.8), [0, 1, 2]),  # swapped signs
        ((0.0, 0.0), [0, 1, 2]),  # constant scores
        ((0.04, 0.1), [0, 1, 2]),  # no training
        ((0.9, 0.65), [0, 2]),  # as good as clipping
    ],
)
def test_value_surfaces_wants_most_of_the_distance_and_no_more(penalised, wrong):
    assert broken(value_surfaces.criteria(surfaces(penalised))) == wrong


# gradient_norms


def norms(factor, depth=12, slope=1.0):
    """Norms that change by a factor a layer towards the input."""
    return gradient_norms.summary([factor**-i for i in range(depth)]) | {"slope": slope}


BOUNDS = [0.1, 0.01, 0.001]
RIGHT = {"penalty": norms(1.05), "clip 0.1": norms(3.0), "clip 0.01": norms(0.06), "clip 0.001": norms(0.006)}


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({}, []),
        ({"penalty": norms(1.0, slope=0.0)}, [5]),  # constant scores
        ({"penalty": norms(1.0, slope=7.0)}, [5]),  # no penalty
        ({"penalty": norms(3.0)}, [4]),  # clipped too
        ({"clip 0.1": norms(0.5)}, [2]),  # not trained
        ({"clip 0.1": norms(1.0)}, [0, 1, 2]),  # not clipped
        ({"clip 0.001": norms(3.0)}, [3]),  # one bound for all
    ],
)
def test_gradient_norms_want_growth_decay_and_neither(found, wrong):
    assert broken(gradient_norms.criteria(RIGHT | found, BOUNDS)) == wrong


def test_gradient_norms_want_an_exponential():
    shuffled = np.random.default_rng(0).permutation([3.0**i for i in range(12)]).tolist()
    found = RIGHT | {"clip 0.1": gradient_norms.summary(shuffled) | {"slope": 1.0}}
    assert 1 in broken(gradient_norms.criteria(found, BOUNDS))


# weights


def kernels(bound, size=(64, 64)):
    """Three kernels of uniform weights within ±bound."""
    rng = np.random.default_rng(0)
    return [rng.uniform(-bound, bound, size) for _ in range(3)]


INITIAL, INSIDE = kernels(0.3), kernels(0.1)
AT_BOUNDS = [np.where(np.arange(k.size).reshape(k.shape) % 2, 0.1 * np.sign(k), k) for k in INSIDE]
SPREAD = [k + 0.15 * np.random.default_rng(1).standard_normal(k.shape) for k in INITIAL]


@pytest.mark.parametrize(
    ("clipped", "penalised", "wrong"),
    [
        ((INSIDE, AT_BOUNDS), (INITIAL, SPREAD), []),
        ((INSIDE, INSIDE), (INITIAL, INITIAL), [1, 2, 3]),  # not trained
        ((INITIAL, [np.clip(k, -0.01, 0.01) for k in INITIAL]), (INITIAL, SPREAD), [0]),  # clipped, not trained
        ((INSIDE, AT_BOUNDS), (INSIDE, AT_BOUNDS), [2, 3]),  # clipped both
        ((INSIDE, SPREAD), (INITIAL, SPREAD), [1]),  # clipped neither
    ],
)
def test_weights_must_come_to_the_bounds_or_leave_their_range(clipped, penalised, wrong):
    found = {"clipped": weights.summary(*clipped), "penalised": weights.summary(*penalised)}
    assert broken(weights.criteria(found)) == wrong


def test_a_bell_of_untrained_weights_is_not_enough():
    """Less than 1 % of any normal weights are near their largest: it says nothing of training."""
    bell = [np.random.default_rng(0).standard_normal((64, 64))]
    found = {"clipped": weights.summary(INSIDE, AT_BOUNDS), "penalised": weights.summary(bell, bell)}
    assert broken(weights.criteria(found)) == [3]


# parallel_lines

THETA = np.array(parallel_lines.THETAS)
RATE, STEPS = 0.02, 300
RATES = RATE * (1 - np.arange(STEPS) / STEPS)


def path(slope):
    """θ from 1 by plain gradient descent, for the slope as a function of θ."""
    theta = [1.0]
    for rate in RATES:
        theta.append(theta[-1] - rate * slope(theta[-1]))
    return theta


def lines(**changed):
    """Numbers of the truth, but for what is changed."""
    estimates = {"wasserstein": np.abs(THETA), "minimax": np.where(THETA == 0, 0, np.log(2))}
    paths = {"wasserstein": path(np.sign), "minimax": path(lambda _: 0), "non_saturating": path(lambda _: 0.3)}
    estimates |= changed.pop("estimates", {})
    return parallel_lines.numbers_of(estimates, paths | changed, RATE)


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        (lines(), []),
        (lines(estimates={"wasserstein": np.zeros(11), "minimax": np.zeros(11)}), [0, 1]),  # constant scores
        (lines(estimates={"minimax": np.full(11, np.log(2))}), [2]),  # the same at every θ
        (lines(estimates={"wasserstein": 1.1 * np.abs(THETA)}), [0]),  # a slope of 1.1
        (lines(estimates={"wasserstein": THETA}), [0]),  # a sign that follows θ
        (lines(wasserstein=path(lambda x: 3 * x)), [4]),  # θ shrinks by itself
        (lines(wasserstein=path(lambda _: 0)), [3, 4]),  # no descent
        (lines(minimax=path(np.sign)), [5]),  # W₁ under both names
        (lines(non_saturating=path(lambda _: 0)), [6]),  # a generator that never moves in this game
    ],
)
def test_parallel_lines_want_the_slope_of_each_divergence(numbers, wrong):
    assert broken(parallel_lines.criteria(numbers)) == wrong


# meaningful_loss

STEP = np.arange(1, 21)
GENERATORS = ((1e-4, 4.0), (3e-5, 4.0), (1e-5, 4.0), (1e-4, 6.5), (1e-4, 7.2))
"""Learning rate, and the distance that this generator comes down to."""
FAR = [floor + (8 - floor) * np.exp(-rate * STEP * 2e3) for rate, floor in GENERATORS]


def game(estimates):
    found = [{"estimate": list(e), "exact": list(exact)} for e, exact in zip(estimates, FAR, strict=True)]
    return {
        "concordance": meaningful_loss.concordance(found),
        "rank_correlation": meaningful_loss.correlation(found[0]),
    }


NOISE = 0.05 * np.random.default_rng(0).standard_normal((len(FAR), len(STEP)))
RANKED = game([1.1 * exact + noise for exact, noise in zip(FAR, NOISE, strict=True)])
GAN = game(np.random.default_rng(1).standard_normal((len(FAR), len(STEP))))


@pytest.mark.parametrize(
    ("wasserstein", "wrong"),
    [
        (RANKED, []),
        (game([-STEP for _ in FAR]), [0]),  # the iteration: a rank correlation of 1 along any run that improves
        (game([-STEP * rate for rate, _ in GENERATORS]), [0]),  # how far the optimizer went
        (game([FAR[(i + 1) % len(FAR)] for i in range(len(FAR))]), [0]),  # the estimate of another run
        (game([np.ones(len(STEP)) for _ in FAR]), [0, 2]),  # a constant
        (game([-exact for exact in FAR]), [0, 1, 2]),  # swapped signs
    ],
)
def test_a_meaningful_loss_ranks_generators_at_one_iteration(wasserstein, wrong):
    found = broken(meaningful_loss.criteria({"wasserstein": wasserstein, "non_saturating": GAN}))
    assert set(wrong) <= set(found)
    assert bool(wrong) == bool(found)


def test_a_meaningful_loss_ranks_better_than_the_standard_gans():
    assert broken(meaningful_loss.criteria({"wasserstein": RANKED, "non_saturating": RANKED})) == [1]


def test_concordance_counts_pairs():
    """Two of three pairs in order at the first measurement, a tie and two in order at the second."""
    found = [
        {"exact": [1, 1], "estimate": [2, 1]},
        {"exact": [2, 2], "estimate": [1, 1]},
        {"exact": [3, 3], "estimate": [3, 2]},
    ]
    assert meaningful_loss.concordance(found) == pytest.approx((2 + 2.5) / 6)


# overfitting


def estimates(training, held_out, error=0.05):
    """A run's numbers, from its two curves."""
    return overfitting.gaps({"step": [30, 60, 90], "training": training, "held_out": held_out, "standard_error": error})


FEW, MANY = estimates([1.6, 1.4, 1.2], [1.5, 0.4, -0.2]), estimates([1.6, 1.4, 1.2], [1.6, 1.2, 0.8])


@pytest.mark.parametrize(
    ("few", "many", "wrong"),
    [
        (FEW, MANY, []),
        (estimates([0.01, 0.01, 0.01], [0.01, 0.0, -0.02]), MANY, [1]),  # an untrained critic's chance gap
        (estimates([0, 0, 0], [0, 0, 0], 0.0), estimates([0, 0, 0], [0, 0, 0], 0.0), [0, 1, 2]),  # constant scores
        (estimates([-1.6, -1.4, -1.2], [-1.5, -0.4, 0.2]), MANY, [1, 2]),  # swapped signs
        (estimates([1.6, 1.4, 1.2], [1.6, 1.4, 1.2]), MANY, [0, 1, 2, 3]),  # held-out images that were trained on
        (FEW, FEW, [3]),  # a gap that grows with the iteration alone, or images of another kind
        (estimates([1.6, 1.4, 1.2], [-1.6, -1.4, -1.2]), MANY, [2]),  # images of another kind, told from the start
    ],
)
def test_overfitting_wants_a_gap_of_few_images_alone(few, many, wrong):
    assert broken(overfitting.criteria(few, many)) == wrong


# robustness


def race(penalty, gan, clip, *, updates=1500, gan_updates=1500, late=None):
    """Rows of one seed each: distances at both budgets, or others for the standard GAN in equal time."""
    late = late or gan
    return [
        {
            method: {"equal updates": [a], "equal time": [b], "critic updates": {"equal updates": count}}
            for method, a, b, count in (
                ("penalty", p, p, updates),
                ("non_saturating", g, later, gan_updates),
                ("clip", c, c, updates),
            )
        }
        for p, g, c, later in zip(penalty, gan, clip, late, strict=True)
    ]


NEAR, AWAY = [2.0] * 8, [9.0] * 8


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (race(NEAR, AWAY, AWAY), []),
        (race(NEAR, AWAY, AWAY, gan_updates=300), [0]),  # the standard GAN is starved
        (race(NEAR, NEAR, NEAR), [1, 2, 3, 4]),
        (race(AWAY, AWAY, AWAY), [1, 2, 3, 4]),
        (race(NEAR, AWAY, AWAY, late=NEAR), [3]),  # it only takes longer
        (race(NEAR, [9.0] + [2.0] * 7, AWAY), [1, 3]),  # one architecture more
        (race([3.99] * 3 + [9.0] * 5, [4.01] * 3 + [9.0] * 5, AWAY), [1, 2, 3, 4]),  # three of eight against none
    ],
)
def test_robustness_wants_more_than_chance_at_both_budgets(rows, wrong):
    assert broken(robustness.criteria(rows, robustness.QUICK)) == wrong


def test_the_table_of_successes():
    counts = robustness.table([True, True, False, False], [True, False, True, False])
    assert counts == {"both": 1, "only WGAN-GP": 1, "only the other": 1, "neither": 1, "p": pytest.approx(0.75)}
    assert robustness.table([True] * 5, [False] * 5)["p"] == pytest.approx(1 / 32)
    assert robustness.table([True], [True])["p"] == 1


def test_every_method_has_as_many_critic_updates_in_a_segment():
    critic = [robustness.digits_config(robustness.QUICK, method).n_critic for method in robustness.METHODS]
    assert critic == [5, 1, 5]
    assert [n * robustness.iterations(robustness.QUICK, n) for n in critic] == [125, 125, 125]


# constraints

# Estimate over W₁ and steepest slope of each constraint, on the plane and on digits.
TRUTH = {
    "gradient_penalty": [(0.93, 1.11), (0.84, 1.07)],
    "lipschitz_penalty": [(1.0, 1.12), (0.84, 1.05)],
    "gradient_penalty + consistency": [(0.77, 0.93), (0.72, 0.93)],
    "dragan": [(1.06, 2.5), (0.93, 1.3)],
    "wasserstein_divergence": [(0.56, 0.71), (0.55, 0.70)],
    "r1": [(0.9, 2.3), (3.9, 6.0)],
    "r1, every 16": [(0.9, 2.3), (3.9, 6.0)],
    "spectral_norm": [(0.54, 0.77), (0.29, 0.52)],
    "clip": [(0.002, 0.003), (0.005, 0.018)],
    "none": [(2e6, 3e6), (1e6, 6e6)],
}


def measured(changed=(), *, qualities=(0.2, 0.3), work=()):
    """The numbers of all rows, with others for some estimates, samples and costs."""
    estimates, works = TRUTH | dict(changed), dict.fromkeys(TRUTH, 1000.0) | dict(work)
    return {
        where: {
            name: {
                "ratio": both[place][0],
                "lipschitz_constant": both[place][1],
                "explained": both[place][0] / both[place][1] if both[place][1] else 0.0,
                "at_first": [0.8, 1.3],
                "qualities": list(qualities),
                "work": works[name],
            }
            for name, both in estimates.items()
        }
        for place, where in enumerate(constraints.SETS)
    }


def every_row(both):
    return dict.fromkeys(TRUTH, both)


def scaled(ratio, slope):
    return {name: [(a * ratio, b * slope) for a, b in both] for name, both in TRUTH.items()}


def unconstrained(*names):
    return dict.fromkeys(names, TRUTH["none"])


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (measured(), []),
        (measured(every_row([(0.0, 0.0)] * 2)), [1, 4, 5, 6, 7]),  # constant scores
        (measured(every_row([(0.05, 0.2)] * 2)), [1, 3, 4, 5, 7]),  # not trained
        (measured(scaled(-1, 1)), [1, 4, 5, 6, 7]),  # swapped signs
        (measured(scaled(1, 0.5)), [0]),  # a slope that is measured too small
        (measured(scaled(2, 1)), [0, 1]),  # a distance that is measured too small
        (measured(every_row(TRUTH["gradient_penalty"])), [3, 4, 5, 6, 7]),  # one constraint in all rows
        (measured(unconstrained("gradient_penalty")), [1, 2, 3]),  # a penalty that is left out
        (measured(unconstrained("spectral_norm")), [4]),  # weights that are not normalized
        (measured({"spectral_norm": [(0.9, 1.5), (0.8, 1.4)]}), [4]),  # a σ that is too small
        (measured({"spectral_norm": [(0.001, 0.002)] * 2}), [4]),  # normalized by the Frobenius norm, layer by layer
        (measured({"gradient_penalty": [(1.9, 2.1), (1.7, 2.0)]}), [1, 2, 3]),  # a target of 2
        (measured({"gradient_penalty + consistency": TRUTH["gradient_penalty"]}), [3]),  # no dropout, no term
        (measured({"r1": TRUTH["lipschitz_penalty"]}), [5]),  # a penalty of the slopes above 1
        (measured(unconstrained("clip")), [6]),  # not clipped
        (measured({"none": TRUTH["gradient_penalty"]}), [7]),  # the default constraint in the place of none
        (measured(work={"none": 1_420.0}), [8]),  # as many iterations, whatever they cost
        (measured(qualities=(0.8, 1.3)), [9]),  # a generator that is not trained, or not the one that is sampled
        (measured(qualities=(0.3, 2.0)), [9]),  # one that runs away from the data
    ],
)
def test_constraints_estimate_what_they_aim_at(found, wrong):
    assert broken(constraints.criteria(found)) == wrong

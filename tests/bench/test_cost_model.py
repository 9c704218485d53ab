import dataclasses
import math
import random

import pytest

from tfdp.bench.cost_model import (
    CostModel,
    Point,
    expected_maximum,
    left_out_errors,
)

MODEL = CostModel(
    alone=0.04,
    own=0.05,
    latency=2e-4,
    seconds_per_byte=1e-9,
    jitter=0.003,
    gradient_bytes=50_000_000,
    replicas_per_worker=2,
    start=0.001,
)


def point(model, workers, steps=2, noise=lambda: 1.0):
    """What would be measured where the model is true."""
    p = workers * model.replicas_per_worker
    parts = {"own": steps * model.alone}
    if workers > 1:
        vote = 2 * (p - 1) * model.latency
        volume = 2 * (p - 1) / p * model.gradient_bytes
        maximum = expected_maximum(p)
        parts = {
            "own": steps * (model.own + vote),
            "waiting": model.jitter * maximum * math.sqrt(steps),
            "communication": vote + volume * model.seconds_per_byte,
            "voting": model.start + vote,
        }
    parts = {name: value * noise() for name, value in parts.items()}
    return Point(
        **{
            **dict.fromkeys(("waiting", "communication", "voting"), 0.0),
            **parts,
        },
        workers=workers,
        replicas=p,
        accumulation_steps=steps,
        samples=8.0 * p * steps,
        gradient_bytes=model.gradient_bytes,
    )


def test_what_is_measured_adds_up_but_for_a_vote():
    found = Point(2, 4, 2, 64.0, 0.1, 0.05, 0.04, 0.01, 8)
    assert found.seconds == pytest.approx(0.19)
    assert found.samples_per_second == pytest.approx(64 / 0.19)
    assert found.per_replica_batch == 8


@pytest.mark.parametrize("numbers", [(1, 2, 4), (1, 2, 3, 8)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"latency": 0.0},
        {"seconds_per_byte": 0.0},
        {"start": 0.0, "jitter": 0.0},
        {"replicas_per_worker": 1, "own": 0.03},
    ],
    ids=str,
)
def test_known_parameters_are_found(numbers, changes):
    model = dataclasses.replace(MODEL, **changes)
    fitted = CostModel.fit([point(model, n) for n in numbers])
    for name, value in dataclasses.asdict(model).items():
        assert getattr(fitted, name) == pytest.approx(value, abs=1e-12), name


def test_one_number_above_one_is_enough_without_start():
    model = dataclasses.replace(MODEL, start=0.0)
    fitted = CostModel.fit([point(model, 1), point(model, 2)])
    for name, value in dataclasses.asdict(model).items():
        assert getattr(fitted, name) == pytest.approx(value), name


def test_accumulation_may_differ_from_point_to_point():
    points = [point(MODEL, 1, 8), point(MODEL, 2, 4), point(MODEL, 4, 2)]
    fitted = CostModel.fit(points)
    assert fitted.jitter == pytest.approx(MODEL.jitter)
    assert fitted.alone == pytest.approx(MODEL.alone)
    assert fitted.own == pytest.approx(MODEL.own)


def test_the_time_of_an_update_is_the_formula():
    model = dataclasses.replace(MODEL, replicas_per_worker=1)
    expected = (
        3 * 0.05
        + 4 * 2 * 7 * 2e-4
        + 2 * 7 / 8 * 0.05
        + 0.003 * expected_maximum(8) * math.sqrt(3)
    )
    assert model.update_seconds(8, 3) == pytest.approx(expected)
    assert model.update_seconds(1, 3) == pytest.approx(0.12)
    assert model.efficiency(1, 3) == 1


def test_noise_gives_nothing_below_zero():
    generator = random.Random(0)
    for _ in range(50):
        points = [
            point(MODEL, n, noise=lambda: generator.uniform(0.2, 3))
            for n in (1, 2, 4)
        ]
        fitted = dataclasses.asdict(CostModel.fit(points))
        assert min(fitted.values()) >= 0, fitted


def test_more_workers_are_less_efficient_and_accumulation_helps():
    by_workers = [MODEL.efficiency(n, 2) for n in (2, 4, 8, 64, 512)]
    assert by_workers == sorted(by_workers, reverse=True)
    by_steps = [MODEL.efficiency(8, steps) for steps in (1, 2, 8, 64)]
    assert by_steps == sorted(by_steps)


@pytest.mark.parametrize("workers", [2, 8, 64])
@pytest.mark.parametrize("efficiency", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("jitter", [0.0, 0.01])
def test_the_smallest_accumulation_is_just_enough(workers, efficiency, jitter):
    model = dataclasses.replace(MODEL, own=0.04, latency=1e-6, jitter=jitter)
    steps = model.smallest_accumulation(workers, efficiency=efficiency)
    assert model.efficiency(workers, steps) >= efficiency - 1e-9
    if steps > 1:
        assert model.efficiency(workers, steps - 1) < efficiency


def test_what_each_micro_batch_costs_cannot_be_made_up_for():
    assert MODEL.own > MODEL.alone
    assert MODEL.smallest_accumulation(2, efficiency=0.9) is None


def test_one_worker_needs_no_accumulation():
    assert MODEL.smallest_accumulation(1, efficiency=1.0) == 1


def test_free_communication_needs_no_accumulation():
    model = CostModel(0.1, 0.1, 0.0, 0.0, 0.0, 0)
    assert model.smallest_accumulation(512, efficiency=0.9) == 1


@pytest.mark.parametrize("efficiency", [0, -1, 1.01, math.nan])
def test_an_efficiency_is_a_part(efficiency):
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        MODEL.smallest_accumulation(8, efficiency=efficiency)


def test_what_is_left_out_is_predicted_where_the_model_is_true():
    model = dataclasses.replace(MODEL, start=0.0)
    errors = left_out_errors([point(model, n) for n in (1, 2, 4, 8)])
    assert list(errors) == [2, 4, 8]
    assert list(errors.values()) == pytest.approx([0, 0, 0], abs=1e-9)


def test_what_is_left_out_is_compared_with_what_was_measured():
    points = [point(dataclasses.replace(MODEL, start=0), n) for n in (1, 2, 4)]
    last = points[-1]
    points[-1] = dataclasses.replace(last, own=last.own + last.seconds)
    assert left_out_errors(points)[4] == pytest.approx(-0.5)


@pytest.mark.parametrize("numbers", [(), (1,), (1, 2)])
def test_too_few_points_are_not_validated(numbers):
    assert left_out_errors([point(MODEL, n) for n in numbers]) == {}


@pytest.mark.parametrize(
    ("numbers", "received"), [((), "no"), ((1,), "1"), ((2, 4), "2, 4")]
)
def test_too_few_points_are_refused(numbers, received):
    with pytest.raises(ValueError, match=f"measurements of {received}. Meas"):
        CostModel.fit([point(MODEL, n) for n in numbers])


@pytest.mark.parametrize("seconds", [0.0, math.nan, math.inf])
def test_an_update_takes_time(seconds):
    points = [point(MODEL, 1), point(MODEL, 2)]
    points[0] = dataclasses.replace(points[0], own=seconds)
    with pytest.raises(ValueError, match="must take some time.*1 worker"):
        CostModel.fit(points)


def test_the_expected_maximum_grows():
    values = [expected_maximum(n) for n in (1, 2, 3, 8, 512)]
    assert values[0] == 0
    assert values == sorted(values)
    # Of two, it is 1 / sqrt(pi).
    assert values[1] == pytest.approx(1 / math.sqrt(math.pi), rel=0.05)

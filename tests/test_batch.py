import copy
import dataclasses
import itertools
import pickle
import re

import numpy as np
import pytest

from tfdp.batch import BatchPlan
from tfdp.checks import checked_count

SIZES = {
    "global_batch": 1024,
    "per_replica_batch": 64,
    "num_replicas": 4,
    "accumulation_steps": 4,
}


def without(*names):
    return {name: size for name, size in SIZES.items() if name not in names}


@pytest.mark.parametrize("missing", SIZES)
def test_any_three_sizes_give_the_fourth(missing):
    assert dataclasses.asdict(BatchPlan(**without(missing))) == SIZES


def test_four_sizes_that_fit_are_kept():
    assert dataclasses.asdict(BatchPlan(**SIZES)) == SIZES


def test_a_missing_size_may_be_passed_as_none():
    plan = BatchPlan(**{**SIZES, "num_replicas": None})
    assert plan.num_replicas == 4


def test_micro_batch_is_what_one_train_step_sees():
    assert BatchPlan(**SIZES).micro_batch == 256


@pytest.mark.parametrize("integer", [np.int32, np.int64, np.uint8])
def test_numpy_integers_become_plain_ones(integer):
    plan = BatchPlan(
        per_replica_batch=integer(8),
        num_replicas=integer(2),
        accumulation_steps=integer(3),
    )
    assert plan == BatchPlan(
        per_replica_batch=8, num_replicas=2, accumulation_steps=3
    )
    assert all(type(size) is int for size in dataclasses.astuple(plan))


@pytest.mark.parametrize(
    "missing",
    [
        names
        for count in (2, 3, 4)
        for names in itertools.combinations(SIZES, count)
    ],
    ids=",".join,
)
def test_fewer_than_three_sizes_are_refused_by_name(missing):
    given = without(*missing)
    with pytest.raises(ValueError, match="at least three of its four") as error:
        BatchPlan(**given)
    listed = ", ".join(f"{name}={size}" for name, size in given.items())
    assert f"Received: {listed or 'none'}. " in str(error.value)
    assert f"Missing: {', '.join(missing)}; pass all" in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"global_batch": 100, "per_replica_batch": 2, "num_replicas": 4},
            "`global_batch` must be divisible by per_replica_batch x "
            "num_replicas. Received: global_batch=100, per_replica_batch=2, "
            "num_replicas=4 (divisor 8). Use global_batch=96 or 104.",
        ),
        (
            {"global_batch": 1000, "per_replica_batch": 64, "num_replicas": 4},
            "Use global_batch=768 or 1024, or per_replica_batch=50.",
        ),
        (
            {"global_batch": 1024, "per_replica_batch": 64, "num_replicas": 3},
            "Use global_batch=960 or 1152.",
        ),
        (
            {"global_batch": 1024, "per_replica_batch": 64, "num_replicas": 32},
            "Use global_batch=2048, or per_replica_batch=32.",
        ),
        (
            {"global_batch": 3, "per_replica_batch": 4, "num_replicas": 5},
            "Use global_batch=20.",
        ),
        (
            {
                "global_batch": 100,
                "num_replicas": 8,
                "accumulation_steps": 1,
            },
            "`global_batch` must be divisible by num_replicas x "
            "accumulation_steps. Received: global_batch=100, num_replicas=8, "
            "accumulation_steps=1 (divisor 8). Use global_batch=96 or 104.",
        ),
        (
            {
                "global_batch": 90,
                "per_replica_batch": 16,
                "accumulation_steps": 2,
            },
            "`global_batch` must be divisible by per_replica_batch x "
            "accumulation_steps. Received: global_batch=90, "
            "per_replica_batch=16, accumulation_steps=2 (divisor 32). Use "
            "global_batch=64 or 96, or per_replica_batch=15.",
        ),
    ],
)
def test_an_indivisible_global_batch_is_refused_with_sizes_that_work(
    sizes, message
):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        BatchPlan(**sizes)
    way_out = str(error.value).partition("Use ")[2]
    for name, size, other in re.findall(r"(\w+)=(\d+)(?: or (\d+))?", way_out):
        for working in filter(None, (size, other)):
            BatchPlan(**{**sizes, name: int(working)})


def test_four_sizes_that_do_not_fit_are_refused():
    message = (
        "`global_batch` must equal per_replica_batch x num_replicas x "
        "accumulation_steps. Received: global_batch=1024, "
        "per_replica_batch=64, num_replicas=4, accumulation_steps=2 "
        "(product 512). Use global_batch=512, or leave out"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        BatchPlan(**{**SIZES, "accumulation_steps": 2})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    ("value", "received"),
    [
        (64.0, "64.0 (float)"),
        (True, "True (bool)"),
        (np.True_, "(bool"),
        ("64", "'64' (str)"),
        (np.array([1, 2]), "(ndarray)"),
    ],
    ids=["float", "bool", "numpy-bool", "str", "array"],
)
def test_a_size_that_is_not_an_integer_is_refused(name, value, received):
    rule = f"`{name}` must be an integer. Received: {name}="
    with pytest.raises(TypeError, match=re.escape(rule)) as error:
        BatchPlan(**{**SIZES, name: value})
    assert received in str(error.value)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -4, np.int64(-1)])
def test_a_size_below_one_is_refused(name, value):
    message = f"`{name}` must be at least 1. Received: {name}={int(value)}."
    with pytest.raises(ValueError, match=re.escape(message)):
        BatchPlan(**{**SIZES, name: value})


def test_sizes_are_passed_by_name():
    with pytest.raises(TypeError, match="positional"):
        BatchPlan(1024, 64, 4)


@pytest.mark.parametrize(
    ("num_samples", "updates"),
    [
        (1, 1),
        (8, 1),
        (24, 1),
        (25, 2),
        (48, 2),
        (49, 3),
        (np.int64(50), 3),
    ],
)
def test_a_short_last_cycle_is_an_update_of_its_own(num_samples, updates):
    plan = BatchPlan(per_replica_batch=4, num_replicas=2, accumulation_steps=3)
    assert plan.updates_per_epoch(num_samples) == updates


@pytest.mark.parametrize("num_samples", range(1, 60))
def test_updates_per_epoch_equals_counting_them(num_samples):
    plan = BatchPlan(per_replica_batch=4, num_replicas=2, accumulation_steps=3)
    micro_batches = range(num_samples)[:: plan.micro_batch]
    cycles = micro_batches[:: plan.accumulation_steps]
    assert plan.updates_per_epoch(num_samples) == len(cycles)


@pytest.mark.parametrize(
    ("num_samples", "error", "message"),
    [
        (0, ValueError, "must be at least 1. Received: num_samples=0."),
        (-2, ValueError, "must be at least 1. Received: num_samples=-2."),
        (10.0, TypeError, "must be an integer. Received: num_samples=10.0"),
        (None, TypeError, "must be an integer. Received: num_samples=None"),
    ],
)
def test_updates_per_epoch_needs_a_number_of_samples(
    num_samples, error, message
):
    with pytest.raises(error, match=re.escape(message)):
        BatchPlan(**SIZES).updates_per_epoch(num_samples)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (
            SIZES,
            "global batch 1,024 = 64 per replica x 4 replicas x "
            "4 accumulation steps (micro-batch 256)",
        ),
        (
            dict.fromkeys(SIZES, 1),
            "global batch 1 = 1 per replica x 1 replica x "
            "1 accumulation step (micro-batch 1)",
        ),
    ],
    ids=["plural", "singular"],
)
def test_a_plan_explains_itself(sizes, text):
    assert str(BatchPlan(**sizes)) == text


def test_repr_is_the_call_that_makes_the_plan():
    plan = BatchPlan(**SIZES)
    assert eval(repr(plan)) == plan


def test_a_plan_is_an_immutable_value():
    plan = BatchPlan(**SIZES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.num_replicas = 8
    assert {plan, BatchPlan(**without("global_batch"))} == {plan}
    assert copy.deepcopy(plan) == pickle.loads(pickle.dumps(plan)) == plan


def test_the_minimum_of_a_count_can_be_lowered():
    assert checked_count("warmup_updates", 0, minimum=0) == 0
    with pytest.raises(ValueError, match="at least 0. Received: .*=-1"):
        checked_count("warmup_updates", -1, minimum=0)


LIMITED = {
    "global_batch": 1024,
    "max_per_replica_batch": 256,
    "num_replicas": 4,
}


@pytest.mark.parametrize(
    ("global_batch", "limit", "replicas", "steps", "micro_batch", "largest"),
    [
        (1024, 256, 4, 1, 1024, 256),
        (1024, 256, 3, 2, 512, 171),
        (1024, 256, 2, 2, 512, 256),
        (1024, 256, 1, 4, 256, 256),
        (1000, 96, 3, 4, 250, 84),
        (60, 100, 8, 1, 60, 8),
        (12, 1, 5, 3, 4, 1),
        (7, 2, 3, 7, 1, 1),
        (4, 4, 4, 1, 4, 1),
        (1, 1, 1, 1, 1, 1),
    ],
)
@pytest.mark.filterwarnings("ignore:`global_batch` should have divisors")
def test_a_limit_gives_the_fewest_micro_batches_that_fit(
    global_batch, limit, replicas, steps, micro_batch, largest
):
    plan = BatchPlan(
        global_batch=global_batch,
        max_per_replica_batch=limit,
        num_replicas=replicas,
    )
    assert plan.accumulation_steps == steps
    assert plan.micro_batch == micro_batch
    assert plan.per_replica_batch == largest


@pytest.mark.filterwarnings("ignore:`global_batch` should have divisors")
def test_within_a_limit_every_update_sees_the_global_batch():
    for size, limit, replicas in itertools.product(
        range(1, 50), (1, 2, 3, 5, 8, 60), range(1, 9)
    ):
        if size < replicas:
            continue
        plan = BatchPlan(
            global_batch=size,
            max_per_replica_batch=limit,
            num_replicas=replicas,
        )
        fitting = [
            steps
            for steps in range(1, size + 1)
            if size % steps == 0 and size / steps <= limit * replicas
        ]
        assert plan.accumulation_steps == fitting[0]
        assert plan.micro_batch * plan.accumulation_steps == size
        assert limit >= plan.per_replica_batch >= plan.micro_batch / replicas
        assert plan == eval(repr(plan))
        assert plan.updates_per_epoch(100) == -(-100 // size)


def test_a_limit_that_all_replicas_use_up_is_the_size():
    limited = BatchPlan(**{**LIMITED, "max_per_replica_batch": 64})
    assert limited == BatchPlan(**SIZES)


def test_a_plan_of_unequal_shares_explains_itself():
    plan = BatchPlan(**{**LIMITED, "num_replicas": 3})
    assert str(plan) == (
        "global batch 1,024 = micro-batch 512 over 3 replicas "
        "(up to 171 each) x 2 accumulation steps"
    )


@pytest.mark.parametrize(
    "sizes",
    [
        {"per_replica_batch": 64},
        {"accumulation_steps": 4},
        {"num_replicas": None},
        {"global_batch": None},
    ],
    ids=str,
)
def test_a_limit_goes_with_batch_and_replicas_alone(sizes):
    given = {**LIMITED, **sizes}
    with pytest.raises(ValueError, match="no other size, as those") as error:
        BatchPlan(**given)
    received = str(error.value).partition("Received: ")[2].partition(". ")[0]
    assert dict(each.split("=") for each in received.split(", ")) == {
        name: str(size) for name, size in given.items() if size is not None
    }


def test_fewer_samples_than_replicas_are_refused():
    message = (
        "`global_batch` must be at least `num_replicas`, so that each replica "
        "has a sample. Received: global_batch=3, num_replicas=4, "
        "max_per_replica_batch=8. Use global_batch=4, or fewer replicas."
    )
    sizes = {"max_per_replica_batch": 8, "num_replicas": 4}
    with pytest.raises(ValueError, match=re.escape(message)):
        BatchPlan(global_batch=3, **sizes)
    assert BatchPlan(global_batch=4, **sizes).micro_batch == 4


def test_a_batch_in_many_pieces_is_warned_of_with_sizes_of_few():
    message = (
        "Received: global_batch=1009, num_replicas=4, "
        "max_per_replica_batch=64, which takes 1,009 micro-batches where 4 "
        "would do. Use global_batch=1008 or 1012, or a power of two"
    )
    sizes = {"num_replicas": 4, "max_per_replica_batch": 64}
    with pytest.warns(UserWarning, match=re.escape(message)) as caught:
        BatchPlan(global_batch=1009, **sizes)
    assert caught[0].filename == __file__
    for better in (1008, 1012, 1024):
        assert BatchPlan(global_batch=better, **sizes).accumulation_steps == 4

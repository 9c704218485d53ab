"""A worker that trains otherwise than the chief is refused, or overruled."""

import dataclasses

import keras
import other_programs
import pytest

import tfdp
from tfdp.asynchronous import programs
from tfdp.asynchronous.description import Description


@pytest.mark.multi_worker
def test_another_program_is_refused_by_name_before_the_first_step(tmp_path):
    (updates, weights), (told, of_other) = tfdp.testing.run_workers(
        other_programs.try_all, 2, args=(str(tmp_path),), asynchronous=True
    )
    for (_, words), text in zip(other_programs.OTHERS, told, strict=True):
        assert words in text
        assert text.startswith("Every worker must train in the same way as")
        assert " worker 1. Start the same program with the same" in text
    # Nothing was made of what was refused, and the same program is let in.
    assert sum(updates.values()) == 12
    assert of_other == weights


@pytest.mark.long
@pytest.mark.multi_worker
def test_who_comes_back_begins_where_the_others_are(tmp_path):
    chief, other = tfdp.testing.run_workers(
        other_programs.back_in_another_place,
        2,
        args=(str(tmp_path),),
        asynchronous=True,
        max_restarts=1,
    )
    assert chief == other == [0, 1, 2, 3]
    read = {
        path.stem: [
            tuple(map(int, n.split())) for n in path.read_text().splitlines()
        ]
        for path in tmp_path.glob("*.txt")
    }
    last = {
        life: [place for epoch, place in places if epoch == 3]
        for life, places in read.items()
    }
    assert last["1-1"]
    # In the chief's order: each sample is seen once.
    together = sorted(last["0-0"] + last["1-1"])
    assert together == list(range(other_programs.ITEMS))


@pytest.mark.multi_worker
def test_a_worker_that_never_comes_is_left_out_and_told(tmp_path):
    (version, seconds), lost = tfdp.testing.run_workers(
        other_programs.without_one,
        2,
        asynchronous=True,
        env={"TFDP_START_TIMEOUT": "2"},
        log_dir=tmp_path,
    )
    assert version == 12
    assert lost.exit_code == 1
    assert seconds < 30
    lines = (tmp_path / "worker-0.log").read_text().splitlines()
    words = "worker 1 has not come in 2 s. The others take its batches; it "
    assert [f"tfdp server: {words}may still join."] == [
        line for line in lines if "has not come" in line
    ]


@pytest.fixture
def described(variables):
    def described(**program):
        made = Description.of(variables, keras.optimizers.SGD())
        return dataclasses.replace(made, program=program)

    return described


def test_what_only_one_is_given_is_a_difference(serving, variables, described):
    served = serving()
    values = [v.numpy() for v in variables]
    served.exchange(0).join(described(a="1"), values)
    for program in ({}, {"a": "1", "b": "2"}):
        name = "b" if "b" in program else "a"
        with pytest.raises(
            ValueError, match=f"{name} is .*not given.*worker 1"
        ):
            served.exchange(1).join(described(**program), values)


def test_batches_of_who_is_refused_go_to_the_others(
    serving, variables, described
):
    served = serving()
    values = [v.numpy() for v in variables]
    chief, other = served.exchange(0), served.exchange(1)
    chief.join(described(a="1"), values)
    with pytest.raises(ValueError, match="a is 1 on the chief and 2 on"):
        other.join(described(a="2"), values)
    chief.end_of_data(0, 2)
    # It is still there, as at a prompt.
    assert [chief.take(0), chief.take(0)] == [0, 1]
    # And takes part once it does as the chief.
    other.join(described(a="1"), values)
    assert chief.statistics()["living"] == [0, 1]


def test_a_rate_that_callbacks_have_set_is_no_difference_in_a_later_fit(
    serving, threads, variables
):
    served = serving()
    values = [v.numpy() for v in variables]

    def describe(rate, momentum=0.0):
        sgd = keras.optimizers.SGD(rate, momentum)
        return Description.of(variables, sgd)

    chief = served.exchange(0)
    chief.join(describe(0.5), values)
    with pytest.raises(ValueError, match="the optimizer is .*0.25"):
        served.exchange(1).join(describe(0.25), values)
    chief.end()
    chief.join(describe(0.25), values)
    late = served.exchange(1)
    assert late.join(describe(0.5), values)["is_over"]
    late.end()
    assert not late.join(describe(0.5), values)["is_over"]
    with pytest.raises(ValueError, match="the optimizer is .*momentum"):
        late.join(describe(0.5, 0.9), values)


@pytest.mark.parametrize(
    "program",
    [
        [],
        {"a": 1},
        {"a": "b" * 1000},
        {"a" * 1000: "b"},
        {str(i): "" for i in range(1000)},
    ],
)
def test_what_are_no_short_words_is_refused(described, program):
    fields = {**described().fields, "program": program}
    with pytest.raises(ValueError, match="must describe the model"):
        Description.from_fields(fields)


def test_long_words_differ_where_what_they_are_of_does():
    one, other = (
        programs.in_words({"a": ["long"] * 1000 + [end]})["a"]
        for end in ("x", "y")
    )
    assert one != other
    assert len(one) == len(other) < 400
    assert programs.is_short({"a": one})

"""At once every value of every parameter is tested, later every combination."""

import itertools
import types

import grids
import pytest


class Case:
    """What pytest collects of a test."""

    parent = types.SimpleNamespace(nodeid="test_it.py")
    originalname = "test_it"

    def __init__(self, params, marks=()):
        self.marks = marks
        self.callspec = types.SimpleNamespace(
            params=params, _idlist=[str(value) for value in params.values()]
        )

    def get_closest_marker(self, name):
        return name if name in self.marks else None


def items(marks=(), **values):
    for chosen in itertools.product(*values.values()):
        yield Case(dict(zip(values, chosen, strict=True)), marks)


def kept(*collected, **values):
    collected = collected or list(items(**values))
    left = {id(item) for item in grids.rest(collected)}
    return [
        tuple(item.callspec.params.values())
        for item in collected
        if id(item) not in left
    ]


def test_every_value_is_kept_in_as_few_combinations_as_that_takes():
    chosen = kept(strategy=[1, 2, 4], steps=[1, 3], name=list("abcdef"))
    assert len(chosen) == 6
    assert [set(values) for values in zip(*chosen, strict=True)] == [
        {2},
        {1, 3},
        set("abcdef"),
    ]


def test_cases_of_one_parameter_are_all_kept():
    assert len(kept(name="abc")) == 3
    assert list(grids.rest([object()])) == []


@pytest.mark.parametrize(
    ("given", "left"), [([1, 2, 4], 2), ([1, 4], 4), ([1], 1)]
)
def test_of_numbers_of_replicas_two_are_kept_or_next_to_it(given, left):
    assert kept(strategy=given) == kept(replicas=given) == [(left,)]


def test_what_is_given_together_with_replicas_is_kept():
    cases = [Case({"replicas": n, "steps": n + 1}) for n in (1, 2, 4)]
    assert len(kept(*cases)) == 3


def test_of_a_sampled_test_one_case_is_kept():
    cases = items(["sampled"], name="ab", strategy=[1, 2, 4])
    assert kept(*cases) == [("a", 2)]


def test_what_is_long_stands_for_no_value():
    long, short = Case({"a": 1, "b": 2}, ["long"]), Case({"a": 1, "b": 3})
    assert kept(long, short, Case({"a": 2, "b": 2})) == [(1, 2), (1, 3), (2, 2)]
    assert grids.rest([long]) == []


def test_what_is_named_is_at_once_and_others_are_long():
    a, b, c = grids.later("abc", "b")
    assert b == "b"
    assert [mark.name for each in (a, c) for mark in each.marks] == ["long"] * 2


def test_values_are_those_of_the_tests_of_a_file_that_run():
    here, there = types.SimpleNamespace(path=1), types.SimpleNamespace(path=2)
    run = [Case({"name": name}) for name in "aba"] + [Case({"other": "c"})]
    for case in run:
        case.path = 1
    there.callspec = types.SimpleNamespace(params={"name": "d"})
    here.session = types.SimpleNamespace(items=[*run, here, there])
    assert grids.of_this_run(here, "name") == ["a", "b"]

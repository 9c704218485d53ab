"""At once every value of every parameter is tested, later every combination."""

import itertools
import types

import grids


def items(**values):
    parent = types.SimpleNamespace(nodeid="test_it.py")
    for chosen in itertools.product(*values.values()):
        yield types.SimpleNamespace(
            parent=parent,
            originalname="test_it",
            callspec=types.SimpleNamespace(
                params=dict(zip(values, chosen, strict=True)),
                _idlist=[str(value) for value in chosen],
            ),
        )


def kept(**values):
    collected = list(items(**values))
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
        {1, 2, 4},
        {1, 3},
        set("abcdef"),
    ]
    assert sum(replicas == 2 for replicas, *_ in chosen) == 4


def test_cases_of_one_parameter_are_all_kept():
    assert len(kept(strategy=[1, 2, 4])) == 3
    assert list(grids.rest([types.SimpleNamespace()])) == []

"""Steps that only take data are told from those that train."""

import functools
import types

import pytest

from tfdp.backup import is_replaying
from tfdp.backup.courses.replay import Replay


@pytest.fixture
def model():
    def train(iterator):
        return {}

    return types.SimpleNamespace(train_function=train)


def replay(model):
    return Replay(
        model, None, batches=3, ahead=0, reads=False, restore=lambda: None
    )


def wrapped(function):
    """As a function whose errors name lost workers."""

    @functools.wraps(function)
    def naming(*args):
        return function(*args)

    return naming


def test_a_replay_is_seen_until_it_stops(model):
    assert not is_replaying(model)
    steps = replay(model)
    assert is_replaying(model)
    steps.stop()
    assert not is_replaying(model)


def test_a_replay_is_seen_where_lost_workers_would_be_named(model):
    replay(model)
    model.train_function = wrapped(model.train_function)
    assert is_replaying(model)


def test_a_step_that_was_not_made_yet_is_no_replay():
    assert not is_replaying(types.SimpleNamespace(train_function=None))

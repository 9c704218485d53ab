"""Nobody takes part before the chief has opened; who does is handed much."""

import keras
import numpy as np
import pytest

from tfdp.asynchronous.description import Description


@pytest.fixture
def join(variables):
    def join(exchange, **kwargs):
        description = Description.of(variables, keras.optimizers.SGD(0.5))
        values = [v.numpy() for v in variables]
        return exchange.join(description, values, **kwargs)

    return join


def test_others_wait_until_the_chief_opens_and_begin_where_it_says(
    serving, threads, join
):
    served = serving()
    chief, other = served.exchange(0), served.exchange(1)
    assert join(chief, opens=False)["epoch"] is None
    joining = threads.submit(join, other)
    state = chief.save()
    chief.load({n: v + 1 for n, v in state.items() if n[:7] == "weights"})
    assert not joining.done()
    chief.open(epoch=3)
    assert joining.result(10)["epoch"] == 3
    chief.read()
    weights = other.read().values
    np.testing.assert_array_equal(weights[0], state[next(iter(state))] + 1)


def test_the_next_fit_begins_where_it_says(serving, threads, join):
    chief = serving(num_workers=1).exchange(0)
    join(chief, opens=False)
    chief.open(epoch=3)
    chief.end()
    assert join(chief, opens=False)["epoch"] is None


def test_who_joins_is_handed_what_the_chief_has_handed_over(
    serving, threads, join, monkeypatch
):
    served = serving()
    chief, other = served.exchange(0), served.exchange(1)
    join(chief, opens=False)
    large, small = np.zeros(300_000, "float64"), np.ones(2, "int64")
    chief.hand_over({"large": large, "small": small, "old": small})
    chief.open()
    join(other)
    handed = other.handed()
    assert list(handed) == ["large", "small", "old"]
    np.testing.assert_array_equal(handed["large"], large)

    sent = []
    ask = chief.ask
    monkeypatch.setattr(
        chief,
        "ask",
        lambda kind, **fields: sent.append(fields) or ask(kind, **fields),
    )
    chief.hand_over({"large": large, "small": small + 1})
    # What has not changed is not sent again.
    assert [fields.get("bytes") for fields in sent] == [small.nbytes, None]
    handed = other.handed()
    assert list(handed) == ["large", "small"]
    np.testing.assert_array_equal(handed["small"], [2, 2])
    np.testing.assert_array_equal(handed["large"], large)


def test_the_next_fit_is_handed_nothing_of_the_last(serving, join):
    chief = serving(num_workers=1).exchange(0)
    join(chief)
    chief.hand_over({"small": np.ones(2)})
    chief.end()
    assert chief.handed() == {}


@pytest.mark.parametrize(
    "ask",
    [
        lambda other: other.open(),
        lambda other: other.hand_over({}),
    ],
)
def test_only_the_chief_opens_and_hands_over(serving, join, ask):
    served = serving()
    chief, other = served.exchange(0), served.exchange(1)
    join(chief)
    join(other)
    with pytest.raises(ValueError, match="Only the chief may ask for"):
        ask(other)

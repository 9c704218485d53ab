"""What a worker may ask of a server, and what it is answered."""

import collections
import concurrent.futures

import exchanging
import keras
import numpy as np
import pytest

from tfdp.asynchronous.description import Description
from tfdp.asynchronous.session import ServerLost


def waits(future):
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.1)
    return True


def sgd(**kwargs):
    return keras.optimizers.SGD(0.5, **kwargs)


def equal(weights, expected):
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return True


def test_an_update_is_kerass_own(serving, variables, gradients):
    chief = serving(1, 0).joined(0, variables, sgd())
    before = chief.read()
    assert before.version == 0
    assert equal(before.values, [v.numpy() for v in variables])
    assert chief.read() is None
    after = chief.update(gradients, step=0)
    assert after.version == 1
    sgd().apply(gradients, variables)
    assert equal(after.values, [v.numpy() for v in variables])


def test_a_variable_without_gradient_is_left_alone(
    serving, variables, gradients
):
    chief = serving(1, 0).joined(0, variables, sgd(momentum=0.9))
    before = chief.read().values
    gradients[1] = None
    after = chief.update(gradients, step=0, then_read=True).values
    changed = [
        not np.array_equal(a, b) for a, b in zip(before, after, strict=True)
    ]
    assert changed == [True, False, True, True]
    with pytest.raises(ValueError, match="`None` for all variables, at step 1"):
        chief.update([None] * 4, step=1)
    # It may still update by what it has read.
    chief.update(gradients, step=1)


def test_a_skipped_update_is_none_and_gives_the_read_back(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    number = chief.take(0)
    chief.read()
    reading = threads.submit(other.read)
    assert waits(reading)
    weights = chief.skip(epoch=0, batches=[number])
    assert weights.version == 0
    assert reading.result(10).version == 0
    other.release()
    chief.end_of_data(0, 1)
    assert chief.take(0) is None
    assert chief.statistics()["skipped"] == {"0": 1}


def test_nobody_reads_before_the_chief(serving, threads, variables):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    reading, taking = threads.submit(other.read), threads.submit(other.take, 0)
    assert waits(reading)
    assert waits(taking)
    assert chief.take(0) == 0
    assert reading.result(10).version == 0
    assert taking.result(10) == 1


def test_who_waits_for_a_batch_keeps_nobody_waiting(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    assert chief.take(0) == 0
    assert other.take(0) == 1
    chief.end_of_data(0, 2)
    chief.read()
    # It begins its next gradient, and there is no batch for it.
    ahead = threads.submit(chief.take, 0)
    assert waits(ahead)
    chief.update(gradients, step=0, epoch=0, batches=[0], then_read=True)
    assert other.read().version == 1
    other.release()
    other.close()
    # That of the lost one.
    assert ahead.result(10) == 1
    assert chief.read().version == 1
    chief.update(gradients, step=1, epoch=0, batches=[1])
    assert chief.take(0) is None


def test_a_read_is_released_where_a_batch_is_waited_for(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    assert (chief.take(0), other.take(0)) == (0, 1)
    chief.end_of_data(0, 2)
    chief.read()
    chief.update(gradients, step=0, epoch=0, batches=[0], then_read=True)
    waiting = threads.submit(chief.take, 0)
    assert other.read().version == 1
    other.update(gradients, step=0, epoch=0, batches=[1])
    assert waiting.result(10) is None
    assert chief.read().version == 2


def test_statistics_are_averaged_by_samples_over_those_that_live(
    serving, threads, variables
):
    served = serving(3, 2)
    statistics = [keras.Variable(np.zeros(2, "float32"), name="mean")]
    workers = [served.joined(w, variables, sgd(), statistics) for w in range(3)]
    values = [[np.full(2, 10.0**w, "float32")] for w in range(3)]
    came = [
        threads.submit(w.average, 0, v, samples=1 + 2 * i)
        for i, (w, v) in enumerate(zip(workers[:2], values[:2], strict=True))
    ]
    assert waits(came[0])
    workers[2].close()
    for future in came:
        assert equal(future.result(10), [np.full(2, 31 / 4, "float32")])
    # Nobody has had any.
    came = [
        threads.submit(w.average, 1, v, samples=0)
        for w, v in zip(workers[:2], values[:2], strict=True)
    ]
    for future in came:
        assert equal(future.result(10), [np.full(2, 5.5, "float32")])
    with pytest.raises(ValueError, match="float64"):
        workers[0].average(2, [np.zeros(2)], samples=1)


def test_all_end_together_with_the_weights_that_keras_leaves(
    serving, threads, variables, gradients
):
    served = serving(2, 1)
    made = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5)
    chief = served.joined(0, variables, made)
    other = served.joined(1, variables, made)
    chief.read()
    chief.update(gradients, step=0)
    ending = threads.submit(chief.end)
    assert waits(ending)
    assert equal(other.end().values, ending.result(10).values)
    made.build(variables)
    made.apply(gradients, variables)
    made.finalize_variable_values(variables)
    assert equal(ending.result().values, [v.numpy() for v in variables])


def test_a_second_fit_begins_with_any_epoch(serving, threads, variables):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    for _ in range(2):
        taking = threads.submit(other.take, 0)
        assert (chief.take(0), taking.result(10)) == (0, 1)
        ending = threads.submit(other.end)
        chief.end()
        ending.result(10)
    # Who joins later has two to go through that are over.
    late = served.exchange(2)
    values = [v.numpy() for v in variables]
    where = late.join(Description.of(variables, sgd()), values)
    assert where["fit"] == 2
    assert late.take(0) is None


def test_who_comes_too_late_is_let_go(serving, threads, variables):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    assert chief.take(0) == 0
    ending = threads.submit(chief.end)
    ending.result(10)
    late = served.joined(1, variables, sgd())
    assert late.take(0) is None
    assert late.read().version == 0
    assert late.average(0, [], samples=1) == []
    assert late.end().version == 0
    assert late._fit == 1


def test_the_rate_is_the_chiefs_to_set(serving, variables, gradients):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    chief.set_learning_rate(0.25)
    before = chief.read().values
    after = chief.update(gradients, step=0).values
    np.testing.assert_allclose(before[0] - after[0], 0.25, rtol=1e-5)
    assert other.statistics()["learning_rates"] == [[0, 0.25]]
    with pytest.raises(ValueError, match="Only the chief may .* worker 1"):
        other.set_learning_rate(0.1)
    with pytest.raises(ValueError, match="Only the chief may ask for 'load'"):
        other.load({})


def test_a_schedule_says_the_rate(serving, variables):
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 10)
    chief = serving(1, 0).joined(0, variables, keras.optimizers.SGD(schedule))
    with pytest.raises(ValueError, match="with a CosineDecay"):
        chief.set_learning_rate(0.1)


def test_what_a_monitor_shows(serving, threads, variables, gradients):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    chief.read()
    other.read()
    chief.update(gradients, step=0)
    other.update(gradients, step=0)
    shown = chief.statistics()
    waited = shown.pop("waited")
    computed = shown.pop("computed")
    assert shown == {
        "version": 2,
        "max_staleness": 1,
        "staleness": {"0": {"0": 1}, "1": {"1": 1}},
        "updates": {"0": 1, "1": 1},
        "skipped": {},
        "learning_rates": [],
        "living": [0, 1],
        "lost": {},
    }
    assert {w: set(v) for w, v in waited.items()} == {
        "0": {"read", "update"},
        "1": {"read", "update"},
    }
    assert computed.keys() == {"0", "1"}
    assert min(computed.values()) > 0
    assert chief.log() == [(0, 0, 0, 0), (1, 0, 0, 1)]


def test_a_worker_knows_what_its_exchanges_took(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    assert chief.spent == (0, 0)
    chief.read()
    reading = threads.submit(other.read)
    assert waits(reading)
    chief.update(gradients, step=0)
    reading.result(10)
    assert 0.1 <= other.spent.waiting <= other.spent.exchanging
    assert sum(other.statistics()["waited"]["1"].values()) == pytest.approx(
        other.spent.waiting
    )
    assert chief.spent.waiting < 0.1
    assert chief.spent.exchanging > 0


@pytest.mark.parametrize("optimizer", exchanging.OPTIMIZERS)
def test_a_saved_state_goes_on_bit_by_bit(serving, optimizer):
    def trained(exchange, loop, epochs, state=None, stop=None):
        exchange.join(loop.description, [v.numpy() for v in loop.variables])
        if state is not None:
            exchange.load(state)
        for epoch in epochs:
            while (number := exchange.take(epoch)) is not None:
                if number >= loop.count:
                    exchange.end_of_data(epoch, loop.count)
                    continue
                if (weights := exchange.read()) is not None:
                    loop.assign(weights)
                gradients = loop.gradients(loop.x[number], loop.y[number])
                exchange.update(
                    [g.numpy() for g in gradients],
                    step=number,
                    epoch=epoch,
                    batches=[number],
                )
                if (epoch, number) == stop:
                    return exchange.save()
        return exchange.save()

    whole = trained(
        serving(1, 0).exchange(0), exchanging.Loop(5, optimizer), range(3)
    )
    half = trained(
        serving(1, 0).exchange(0),
        exchanging.Loop(5, optimizer),
        range(3),
        stop=(1, 2),
    )
    assert half["queue/following"].tolist() == [3]
    resumed = serving(1, 0)
    after = trained(
        resumed.exchange(0), exchanging.Loop(5, optimizer), range(1, 3), half
    )
    assert list(after) == list(whole)
    assert equal(after.values(), whole.values())
    assert resumed.exchanges[0].log()[0].applied == 8


def test_a_state_of_another_model_is_refused(serving, variables, gradients):
    chief = serving(1, 0).joined(0, variables, sgd(momentum=0.9))
    state = chief.save()
    names = [name for name in state if name.startswith("optimizer/")]
    assert [int(n.split("/")[1]) for n in names] == list(range(len(names)))
    with pytest.raises(ValueError, match="'weights/9/x', which this one has"):
        chief.load({"weights/9/x": np.zeros(1, "float32")})
    name = next(iter(state))
    with pytest.raises(ValueError, match="a saved value .* Received: float32"):
        chief.load({name: np.zeros(1, "float32")})
    with pytest.raises(ValueError, match="The position in an epoch"):
        chief.load({"queue/epoch": np.zeros(5, "int64")})
    chief.read()
    with pytest.raises(RuntimeError, match=r"reads of workers \[0\]"):
        chief.load(state)
    chief.release()
    chief.load({name: state[name] + 1})
    assert equal(chief.read().values[:1], [state[name] + 1])


def test_weights_alone_may_be_set_between_epochs(serving, variables, gradients):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd(momentum=0.9))
    late = served.joined(1, variables, sgd(momentum=0.9))
    state = chief.save()
    name = next(iter(state))
    chief.read()
    chief.update(gradients, step=0)
    # It brings statistics together, of an epoch that others have ended.
    late.read()
    chief.load({name: state[name] + 1})
    late.release()
    weights = late.read()
    assert (weights.version, len(chief.log())) == (1, 1)
    assert equal(weights.values[:1], [state[name] + 1])


def test_a_worker_may_be_lost_while_others_train(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    chief.take(0)
    other.read()
    reading = threads.submit(chief.read)
    assert waits(reading)
    other._session._connection.close()
    assert reading.result(1).version == 0
    lost = chief.statistics()["lost"]
    assert list(lost) == ["1"]
    assert "worker 1 at 127.0.0.1" in served.lines[0]
    assert served.lines[0].endswith("The others go on.")
    with pytest.raises(ServerLost, match="worker 1 has lost the server at"):
        other.update(gradients, step=0)
    # And come back.
    again = served.joined(1, variables, sgd())
    assert chief.statistics()["lost"] == {}
    chief.update(gradients, step=0)
    assert again.read().version == 1


def test_a_worker_that_waits_may_be_lost(serving, threads, variables):
    served = serving(3, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    third = served.joined(2, variables, sgd())
    chief.read()
    reading = threads.submit(other.read)
    assert waits(reading)
    after = threads.submit(third.read)
    assert waits(after)
    other._session._connection.close()
    with pytest.raises(ServerLost):
        reading.result(10)
    while 1 in chief.statistics()["living"]:
        pass
    chief.release()
    assert after.result(10).version == 0


def test_one_worker_has_one_process(serving, variables):
    served = serving(2, 1)
    served.joined(0, variables, sgd())
    first = served.joined(1, variables, sgd())
    served.joined(1, variables, sgd())
    taking = first._session.ask
    with pytest.raises(ServerLost, match="another process has joined as work"):
        collections.deque(iter(lambda: taking("release"), None), maxlen=0)


def test_who_never_comes_is_lost(serving, threads, variables, gradients):
    served = serving(2, 0, start_timeout=0.2)
    chief = served.joined(0, variables, sgd())
    chief.end_of_data(0, 2)
    seen = []
    while (number := chief.take(0)) is not None:
        seen.append(number)
        chief.read()
        chief.update(gradients, step=0, epoch=0, batches=[number])
    assert seen == [0, 1]
    assert served.lines == [
        "worker 1 has not come in 0.2 s. The others take its batches; it may "
        "still join."
    ]


@pytest.mark.parametrize(
    ("leave", "why"),
    [
        (lambda chief: chief.close(), "the chief has ended the training"),
        (
            lambda chief: chief._session._connection.close(),
            "the chief is lost: it has closed the connection",
        ),
    ],
    ids=["leaves", "dies"],
)
def test_without_the_chief_all_end(serving, threads, variables, leave, why):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    waiting = threads.submit(other.read)
    assert waits(waiting)
    leave(chief)
    with pytest.raises(ServerLost, match=why):
        waiting.result(5)
    assert served.server.wait(5)
    with pytest.raises(ServerLost, match="no .*|none at"):
        served.exchange(1, start_timeout=0.1)


def test_an_update_that_fails_ends_all(serving, threads, variables, gradients):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    chief.read()

    def fail(gradients):
        raise FloatingPointError("out of numbers")

    served.server.training.model.apply = fail
    with pytest.raises(ServerLost, match="an update has failed: Floating"):
        chief.update(gradients, step=0)
    assert served.server.wait(5)
    with pytest.raises(ServerLost, match="out of numbers"):
        other.read()
    assert any("The training ends" in line for line in served.lines)


def test_a_step_out_of_turn_is_told(serving, variables, gradients):
    chief = serving(1, 0).joined(0, variables, sgd())
    with pytest.raises(RuntimeError, match="must read weights before"):
        chief.update(gradients, step=0)
    chief.read()
    with pytest.raises(RuntimeError, match="batch 3 of epoch 0 from worker 0"):
        chief.update(gradients, step=0, epoch=0, batches=[3])
    with pytest.raises(ValueError, match="3 for 4 variables"):
        chief.update(gradients[:3], step=0)
    with pytest.raises(ValueError, match="float64"):
        chief.update([g.astype("float64") for g in gradients], step=0)
    # Nothing of it has happened.
    assert chief.statistics()["version"] == 0
    chief.update(gradients, step=0)


def test_who_waits_for_an_epoch_to_begin_keeps_nobody_waiting(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    assert chief.take(0) == 0
    assert other.take(0) == 1
    chief.end_of_data(0, 2)
    chief.read()
    chief.update(gradients, step=0, epoch=0, batches=[0])
    other.read()
    # It has a read, and no batch for it in this epoch.
    other.update(gradients, step=0, epoch=0, batches=[1], then_read=True)
    assert other.take(0) is None
    taking = threads.submit(other.take, 1)
    assert waits(taking)
    reading = threads.submit(chief.read)
    assert reading.result(10).version == 2
    assert chief.take(1) == 0
    assert taking.result(10) == 1


def test_a_fit_that_a_worker_leaves_goes_on_without_it(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    assert (chief.take(0), other.take(0)) == (0, 1)
    chief.end_of_data(0, 2)
    other.read()
    reading = threads.submit(chief.read)
    assert waits(reading)
    other.abandon()
    assert reading.result(10).version == 0
    chief.update(gradients, step=0, epoch=0, batches=[0])
    assert chief.take(0) == 1
    chief.read()
    chief.update(gradients, step=1, epoch=0, batches=[1])
    assert chief.take(0) is None
    beginning = threads.submit(served.begin, other, variables, sgd())
    assert waits(beginning)
    assert chief.end().version == 2
    served.begin(chief, variables, sgd())
    assert beginning.result(10)["version"] == 2


def test_a_fit_that_the_chief_leaves_ends_for_all(
    serving, threads, variables, gradients
):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    assert (chief.take(0), other.take(0)) == (0, 1)
    chief.abandon()
    other.read()
    other.update(gradients, step=0, epoch=0, batches=[1])
    assert other.take(0) is None
    beginning = threads.submit(served.begin, chief, variables, sgd())
    assert waits(beginning)
    assert other.vote(0, stops=False)
    other.end()
    assert beginning.result(10)["version"] == 1


def test_a_fit_that_all_leave_is_over(serving, variables):
    served = serving(2, 0)
    chief = served.joined(0, variables, sgd())
    other = served.joined(1, variables, sgd())
    other.abandon()
    chief.abandon()
    assert served.begin(chief, variables, sgd())["fit"] == 1
    assert served.begin(other, variables, sgd())["fit"] == 1

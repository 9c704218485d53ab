"""Who asks for what, and whom a signal belongs to."""

import os
import signal
import threading

import keras
import numpy as np
import problem
import pytest

import tfdp
from tfdp.agreement.ballot import QUESTIONS, Ballot
from tfdp.agreement.step_message import StepMessage


@pytest.fixture
def strategy():
    return tfdp.MirroredStrategy(["CPU:0"])


@pytest.fixture
def ballot(strategy):
    ballot = Ballot(strategy)
    yield ballot
    ballot.close()


@pytest.fixture(autouse=True)
def _own_handlers():
    """What pytest itself does at a signal must not end the tests."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {n: signal.signal(n, handlers[n]) for n in handlers}
    yield
    after = {n: signal.signal(n, before[n]) for n in handlers}
    assert after == handlers


@pytest.fixture
def fit(strategy):
    """Calls a function in a step of a `fit` without tfdp's callbacks."""
    with strategy.scope():
        model = problem.make_model()
        model.compile("sgd", "mse")

    def run(function):
        model.fit(
            problem.dataset(8, 8),
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_train_batch_end=lambda batch, logs: function()
                )
            ],
        )

    return run


class Reached(Exception):
    """What a handler of the user's own raises."""


def reach(number, frame):
    raise Reached(number)


def test_what_was_asked_for_is_counted_once(ballot):
    ballot.ask("stop")
    ballot.ask("backup")
    ballot.ask("stop")
    assert ballot.count() == {"stop", "backup"}
    assert ballot.count() == set()


def test_one_vote_of_any_worker_decides(ballot, strategy, monkeypatch):
    others = {"stop": 2, "terminate": 1}
    questions = ("stop", "interrupt", "terminate", "backup", "memory")

    def gathered(given_strategy, own, often):
        assert given_strategy is strategy
        assert own == [0, 1, 1, 0, 0]
        return np.array([own, [others.get(q, 0) for q in questions]])

    monkeypatch.setattr("tfdp.agreement.ballot.all_gather", gathered)
    monkeypatch.setattr(type(strategy), "num_workers", 2)
    ballot.ask("interrupt")
    ballot.ask("terminate")
    assert ballot.count() == {"stop", "interrupt", "terminate"}


@pytest.fixture
def step(strategy, monkeypatch):
    """Runs a step that carries what is asked for."""
    monkeypatch.setattr(
        strategy, "message", StepMessage(strategy, len(QUESTIONS))
    )

    def run():
        strategy.message.sent_with(
            lambda told: strategy.run(told), lambda: {}, has_votes=True
        )

    return run


def test_a_step_carries_what_was_asked_for_before_it(step, strategy):
    ballot = Ballot(strategy)
    ballot.ask("backup")
    ballot.send()
    ballot.ask("stop")
    step()
    assert ballot.count() == {"backup"}
    for expected in ({"stop"}, set()):
        ballot.send()
        step()
        assert ballot.count() == expected


def test_what_no_step_has_carried_is_counted_at_once(step, strategy):
    ballot = Ballot(strategy)
    ballot.ask("backup")
    ballot.send()
    assert ballot.count() == {"backup"}
    ballot.send()
    step()
    ballot.ask("stop")
    assert ballot.count(is_due=True) == {"stop"}
    ballot.is_apart = True
    ballot.ask("memory")
    step()
    assert ballot.count() == {"memory"}


def test_who_has_ended_asks_no_more(step, strategy):
    ballot = Ballot(strategy)
    ballot.ask("stop")
    ballot.send()
    ballot.close()
    step()
    assert Ballot(strategy).count() == set()


def test_a_second_signal_ends_the_fit_while_the_first_is_on_its_way(
    step, strategy, fit
):
    ballot = Ballot(strategy)

    def send():
        ballot.listen(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        ballot.send()
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(send)
    ballot.close()


@pytest.mark.parametrize(
    ("number", "question"),
    [(signal.SIGINT, "interrupt"), (signal.SIGTERM, "terminate")],
)
def test_a_signal_in_a_fit_asks(ballot, fit, capsys, number, question):
    def send():
        ballot.listen(number)
        os.kill(os.getpid(), number)

    fit(send)
    assert ballot.count() == {question}
    assert capsys.readouterr().err == (
        f"{number.name}: training ends after this update; send it again to "
        "end at once.\n"
    )


def test_both_signals_in_a_fit_ask(ballot, fit):
    def send():
        ballot.listen(signal.SIGINT)
        ballot.listen(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    fit(send)
    assert ballot.count() == {"interrupt", "terminate"}


def test_a_signal_asks_again_once_the_first_was_counted(ballot, fit):
    counted = []

    def send():
        ballot.listen(signal.SIGINT)
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            counted.append(ballot.count())

    fit(send)
    assert counted == [{"interrupt"}] * 2


def test_a_second_signal_ends_the_fit(ballot, fit):
    sent = []

    def send():
        ballot.listen(signal.SIGINT)
        for _ in range(2):
            sent.append(1)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(send)
    assert len(sent) == 2


def test_a_second_signal_goes_to_whom_it_belonged(ballot, fit):
    def send():
        ballot.listen(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, reach)
    try:
        with pytest.raises(Reached, match=str(int(signal.SIGTERM))):
            fit(send)
        assert signal.getsignal(signal.SIGTERM) is reach
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_signal_without_a_fit_is_not_kept_waiting(ballot):
    ballot.listen(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert ballot.count() == set()


def test_a_signal_after_a_fit_that_failed_is_not_kept_waiting(ballot, fit):
    def fail():
        ballot.listen(signal.SIGINT)
        raise Reached

    with pytest.raises(Reached):
        fit(fail)
    # Nor in the next fit, which knows nothing of the ballot.
    with pytest.raises(KeyboardInterrupt):
        fit(lambda: signal.raise_signal(signal.SIGINT))


@pytest.mark.parametrize(
    "handler",
    [reach, signal.SIG_IGN, signal.SIG_DFL],
    ids=["function", "ignored", "default"],
)
def test_closing_gives_the_handler_back(ballot, handler):
    previous = signal.signal(signal.SIGTERM, handler)
    try:
        ballot.listen(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is not handler
        ballot.close()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_handler_that_is_not_pythons_becomes_the_default(ballot, monkeypatch):
    """Of a handler that it did not set, Python only says None."""
    install = signal.signal
    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", lambda *args: install(*args) and None)
        ballot.listen(signal.SIGTERM)
    ballot.close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_listening_twice_gives_the_first_handler_back(ballot):
    ballot.listen(signal.SIGINT)
    ballot.listen(signal.SIGINT)
    ballot.close()
    ballot.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_hears_no_signals(ballot):
    def listen():
        ballot.listen(signal.SIGINT)
        ballot.close()

    failed = []
    previous, threading.excepthook = threading.excepthook, failed.append
    try:
        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
    finally:
        threading.excepthook = previous
    assert failed == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

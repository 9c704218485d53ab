"""What monitors say of asynchronous workers."""

import json
import math
import threading
import types

import exchanging
import fake_exchange
import keras
import problem
import pytest

import tfdp
from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.serving.server import Server
from tfdp.asynchronous.serving.server_settings import Settings
from tfdp.callbacks.apart.exchange_watch import ExchangeWatch

BATCH = 16
OF_FIT = (
    "workers wait for room 25 % of the time, at max_staleness=1; "
    "max_staleness=2 would leave hardly any of that, with gradients that miss "
    "more updates. Worker 1 takes 2 times as long as the median for a "
    "gradient, 1.5 s; look at what else runs there."
)


@pytest.fixture
def fit(two_replicas):
    """Fits as one of two asynchronous workers; returns history and monitor."""

    def fitted(*more, exchange=None, bar=0, others=0.25, **options):
        exchange = exchange or fake_exchange.FakeExchange(1)
        clock = fake_exchange.Exchanging(exchange, others)
        with two_replicas.scope():
            model = problem.make_model()
            model.compile(
                tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse"
            )
        monitor = tfdp.callbacks.ThroughputMonitor(clock=clock, **options)
        with fake_exchange.asynchronous(two_replicas, exchange):
            history = model.fit(
                problem.dataset(4 * BATCH, BATCH),
                epochs=2,
                verbose=bar,
                callbacks=[
                    tfdp.callbacks.DataParallel(),
                    clock,
                    monitor,
                    *more,
                ],
            ).history
        return history, monitor

    return fitted


def test_an_epoch_has_the_figures_of_its_updates(fit):
    history, monitor = fit()
    assert history["room_wait_fraction"] == pytest.approx([0.25] * 2, abs=1e-3)
    assert history["staleness_mean"] == [2.0, 2.0]
    assert history["staleness_max"] == [2, 2]
    assert history["updates_of_all_workers"] == [12, 12]
    breakdown = monitor.total.breakdown
    assert breakdown.room == (0.5 * monitor.rates.updates,) * 2
    assert sum(map(breakdown.share, breakdown.parts)) == pytest.approx(1)
    # What an exchange takes beside that.
    assert breakdown.share("communication") == pytest.approx(0.25, abs=1e-3)
    assert breakdown.share("other") == pytest.approx(0.5, abs=1e-3)


def test_an_epoch_of_warm_up_has_the_keys(fit):
    history, _ = fit(warmup_updates=5)
    assert math.isnan(history["room_wait_fraction"][0])
    assert history["room_wait_fraction"][1] == pytest.approx(0.25, abs=1e-3)
    assert history["updates_of_all_workers"] == [12, 12]


def test_the_line_of_an_epoch_tells_them(fit, capsys):
    fit(verbose=2)
    lines = capsys.readouterr().out.splitlines()
    (line,) = [x for x in lines if x.startswith("epoch 2")]
    assert line.endswith(
        " | 12 updates of all workers | staleness 2.00, at most 2"
        " | for room 25 %"
    )
    fit(verbose=2, warmup_updates=100)
    assert "epoch 1: all of it was warm-up | 12 updates of all workers | " in (
        capsys.readouterr().out
    )


def test_the_progress_bar_shows_none_of_them(fit, capsys):
    fit(bar=2)
    said = capsys.readouterr().out
    assert "samples/s: " in said
    assert "staleness_" not in said
    assert "updates_of_all" not in said


def test_the_table_names_the_bound_and_the_slow_worker(fit, capsys):
    _, monitor = fit(others=1.5)
    lines = [
        " ".join(line.split()) for line in capsys.readouterr().out.split("\n")
    ]
    assert "24 updates of all workers, at max_staleness=1" in lines
    assert "0 16 0.50 1 67 % 750.00" in lines
    assert "1 8 2.00 2 25 % 1,500.00" in lines
    # The whole sentence, which the console breaks into lines.
    words = OF_FIT.replace("25 %", "54 %")
    assert f"tfdp: {words}" in " ".join(lines)
    assert " ".join(lines).count("workers wait for room") == 1
    found = monitor.limit()
    assert (found.kind, str(found)) == ("room", words)
    assert found.share == pytest.approx(28 / 52)


def test_the_slow_worker_is_named_where_it_limits_nobody(fit, capsys):
    class Fast(fake_exchange.FakeExchange):
        def update(self, worker, *, stale, computed, waited=0.0):
            super().update(worker, stale=stale, computed=computed)

    _, monitor = fit(exchange=Fast(4))
    assert monitor.limit().kind != "room"
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "tfdp: workers wait for room 0 % of the time, at max_staleness=4. "
        "Worker 1 takes 2 times as long as the median for a gradient"
    ) in printed


def test_a_synchronous_fit_says_nothing_of_it(two_replicas, capsys, tmp_path):
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse"
        )
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=2)
    history = model.fit(
        problem.dataset(4 * BATCH, BATCH),
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            monitor,
            tfdp.callbacks.RunLogger(tmp_path),
        ],
    ).history
    words = ("room", "staleness", "all_workers", "asynchron")
    said = capsys.readouterr().out + (tmp_path / "run.jsonl").read_text()
    assert [w for w in words if w in said or w in str(list(history))] == []


def read(folder, kind):
    lines = (folder / "run.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_a_run_has_the_histogram_of_each_worker(fit, tmp_path):
    exchange = fake_exchange.FakeExchange(1)
    exchange.lost["0"] = "it was killed"
    fit(tfdp.callbacks.RunLogger(tmp_path), exchange=exchange)
    (begin,) = read(tmp_path, "run")
    assert begin["asynchronous"] == {"max_staleness": 1, "workers": 2}
    rows = read(tmp_path, "staleness")
    places = [(r["epoch"], r["update"], r["worker"]) for r in rows]
    assert places == [(0, 4, 0), (0, 4, 1), (1, 8, 0), (1, 8, 1)]
    first, second, *_ = rows
    assert first["staleness"] == {"0": 4, "1": 4}
    assert second["staleness"] == {"2": 4}
    assert (first["updates"], second["updates"]) == (8, 4)
    assert (first["computing_seconds"], first["room_seconds"]) == (6.0, 2.0)
    assert (first["lost"], second["lost"]) == ("it was killed", None)
    (end,) = read(tmp_path, "end")
    assert end["room_words"].startswith("workers wait for room 25 %")
    (epoch, _) = read(tmp_path, "epoch")
    assert epoch["staleness_mean"] == 2.0
    (window, *_) = read(tmp_path, "window")
    assert window["replicas"][0]["room_seconds"] > 0


def test_a_run_has_it_without_a_monitor(two_replicas, tmp_path):
    exchange = fake_exchange.FakeExchange(1)
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse"
        )
    with fake_exchange.asynchronous(two_replicas, exchange):
        model.fit(
            problem.dataset(4 * BATCH, BATCH),
            verbose=0,
            callbacks=[
                tfdp.callbacks.DataParallel(),
                fake_exchange.Exchanging(exchange),
                tfdp.callbacks.RunLogger(tmp_path, tensorboard=False),
            ],
        )
    assert [r["updates"] for r in read(tmp_path, "staleness")] == [8, 4]
    (end,) = read(tmp_path, "end")
    assert end["room_words"] == OF_FIT


def test_of_a_worker_that_joins_anew_only_its_own_step_counts(two_replicas):
    exchange = fake_exchange.FakeExchange()
    exchange.spent = exchange.spent._replace(exchanging=0.0, waiting=0.0)
    with fake_exchange.asynchronous(two_replicas, exchange):
        watch = ExchangeWatch(two_replicas)
        watch.begin_step()
        # The server remembers what it had waited for.
        exchange.spent = exchange.spent._replace(exchanging=0.5, waiting=99.0)
        assert watch.end_step() == {"exchanging": 0.5, "room": 0.5}


def test_a_real_server_counts_what_the_watch_says():
    secret, count, epochs = "of this job", 12, 3
    server = Server(Settings("127.0.0.1:0", secret, 2, 0), say=lambda line: 0)
    exchanges = [
        Exchange(server.address, secret, worker=worker) for worker in (0, 1)
    ]
    strategy = types.SimpleNamespace(exchange=exchanges[0])
    watch = ExchangeWatch(strategy)
    pause = threading.Event()
    # The second takes longer, and both take turns.
    loops = [
        exchanging.Loop(count, "SGD", lambda done, t=t: pause.wait(t))
        for t in (0, 0.1)
    ]

    def begin(done):
        if not done:
            watch.begin_epoch()
            watch.begin_step()
            has_begun.set()

    has_begun = threading.Event()
    loops[0].before_update = begin
    for loop in loops:
        # Makes its graph.
        loop.gradients(loop.x[0], loop.y[0])
    threads = [
        threading.Thread(target=loop.run, args=(exchange, epochs))
        for loop, exchange in zip(loops, exchanges, strict=True)
    ]
    for thread in threads:
        thread.start()
        # Before it is watched, nobody makes an update.
        assert has_begun.wait(60)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    step = watch.end_step()
    logs = watch.end_epoch()
    found = watch.of_epoch
    log = exchanges[0].log()
    for exchange in reversed(exchanges):
        exchange.close()
    server.end("the test has ended")
    assert logs["updates_of_all_workers"] == count * epochs == len(log)
    assert logs["staleness_max"] == 0
    for worker in (0, 1):
        own = [update for update in log if update.worker == worker]
        assert found.workers[worker].staleness == {0: len(own)}
    assert found.slowest == 1
    assert found.workers[1].gradient_seconds >= 0.1
    # It waits while the slower one computes.
    assert found.workers[0].waiting > found.workers[1].waiting
    assert step["room"] == pytest.approx(found.workers[0].waiting)
    assert step["room"] <= step["exchanging"]

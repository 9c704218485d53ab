"""What an audit says of workers that do not wait for each other."""

import keras
import pytest

import tfdp


@pytest.fixture
def strategy_of(monkeypatch):
    monkeypatch.setenv("TFDP_JOB_SECRET", "of this job")

    def make(bound, workers=2):
        addresses = [f"127.0.0.1:{port}" for port in range(1, 1 + workers)]
        # Of a worker, which starts no server.
        cluster = tfdp.Cluster.of(addresses, workers - 1)
        return tfdp.AsynchronousStrategy(
            bound, cluster=cluster, devices=["CPU:0"]
        )

    return make


def audited(strategy, **kwargs):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.BatchNormalization(name="norm", **kwargs),
                keras.layers.Dense(1),
            ]
        )
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, "mse")
    return tfdp.audit(model)


def test_staleness_is_noted(strategy_of):
    (finding,) = audited(strategy_of(3))
    assert finding.severity == "note"
    assert "up to 3 updates of others" in str(finding)


def test_turns_are_noted(strategy_of):
    (finding,) = audited(strategy_of(0))
    assert "workers that take turns" in str(finding)


def test_a_layer_that_synchronizes_is_warned_of(strategy_of):
    warning, _ = audited(strategy_of(3), synchronized=True)
    assert warning.severity == "warning"
    assert "`norm` with synchronized=True" in str(warning)


def test_a_worker_alone_is_one_device():
    strategy = tfdp.AsynchronousStrategy(devices=["CPU:0"])
    assert not audited(strategy, synchronized=True)

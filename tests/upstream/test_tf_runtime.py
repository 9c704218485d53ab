"""Which private name of TensorFlow moved, of those that `tf_runtime` uses."""

import os
import platform
import subprocess
import sys

import pytest
import tensorflow as tf
from contracts import contract
from tensorflow.python.eager import context

from tfdp import testing
from tfdp.upstream.tensorflow import tf_runtime


@contract(
    "context.global_seed",
    serves="workers agree on another data seed than `tf.random.set_seed` set",
)
def test_global_seed_is_what_set_seed_has_set():
    try:
        tf.random.set_seed(1234)
        assert context.global_seed() == 1234
        assert tf_runtime.global_seed() == 1234
    finally:
        context.set_global_seed(None)
    assert tf_runtime.global_seed() is None


@pytest.mark.sampled
@contract(
    "IsMklEnabled",
    serves="somebody is told of slow kernels on the CPU",
)
@pytest.mark.parametrize("uses_onednn", [False, True])
def test_which_kernels_are_used_is_known(uses_onednn):
    code = (
        "from tfdp.upstream.tensorflow import tf_runtime\n"
        "print(tf_runtime.uses_onednn())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(int(uses_onednn))},
        capture_output=True,
        text=True,
        check=True,
    )
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    assert found.stdout.split()[-1] == str(uses_onednn and is_x86)


@pytest.mark.multi_worker
@contract(
    "_num_workers",
    "_id_in_cluster",
    "wait_at_barrier",
    serves="MultiWorkerMirroredStrategy does not know who is the chief, or "
    "aborts as a process makes its second",
)
def test_strategy_knows_its_workers(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import tensorflow as tf\n"
        "from tfdp import testing\n"
        "from tfdp.upstream.tensorflow import tf_runtime\n"
        "strategy = tf.distribute.MultiWorkerMirroredStrategy()\n"
        "extended = strategy.extended\n"
        "tf_runtime.wait_for_all_tasks('contract', seconds=60)\n"
        "with strategy.scope(), tf_runtime.making_variables_alone(strategy):\n"
        "    alone = tf.Variable(extended._id_in_cluster + 10)\n"
        "testing.report([\n"
        "    alone.numpy().item(),\n"
        "    extended._num_workers, extended._id_in_cluster,\n"
        "    tf_runtime.num_workers(strategy),\n"
        "    tf_runtime.worker_index(strategy),\n"
        "])\n"
    )
    assert testing.run_workers(script, 2, timeout=400) == [
        [10, 2, 0, 2, 0],
        [11, 2, 1, 2, 1],
    ]


@contract(
    "context.context",
    "configure_coordination_service",
    "coordination_service",
    "coordination_config_pb2.CoordinatedJob",
    serves="a lost worker is noticed after minutes, not seconds",
)
def test_the_heartbeat_is_configured_once(monkeypatch):
    fresh = context.Context()
    monkeypatch.setattr(context, "context", lambda: fresh)
    assert fresh.coordination_service is None
    for seconds in (2.5, 9.0):
        tf_runtime.configure_heartbeat(
            {"chief": 1, "worker": 3}, seconds=seconds
        )
    config = fresh.config.experimental.coordination_config
    assert fresh.coordination_service is not None
    assert config.service_type == "standalone"
    assert config.service_leader == "/job:chief/replica:0/task:0"
    assert config.heartbeat_timeout_in_ms == 2500
    assert [(j.name, j.num_tasks) for j in config.coordinated_job_list] == [
        ("chief", 1),
        ("worker", 3),
    ]


@contract(
    "_config",
    "recv_buf_max_chunk",
    serves="chunks that gradients are sent in",
)
def test_the_size_of_chunks_is_configured_unless_chosen(monkeypatch):
    fresh = context.Context()
    monkeypatch.setattr(context, "context", lambda: fresh)
    fresh.log_device_placement = True
    for size in (4096, 8192):
        tf_runtime.send_in_chunks(size)
    assert fresh.config.experimental.recv_buf_max_chunk == 4096
    assert fresh.config.log_device_placement


@contract(
    "_context_handle",
    "_collective_leader",
    serves="a tensor made before the strategy ends in TensorFlow's own error",
)
def test_whether_tensorflow_has_started_is_known(monkeypatch):
    fresh = context.Context()
    monkeypatch.setattr(context, "context", lambda: fresh)
    assert not tf_runtime.has_started_alone()
    fresh._context_handle = object()
    assert tf_runtime.has_started_alone()
    fresh._collective_leader = "/job:worker/replica:0/task:0"
    assert not tf_runtime.has_started_alone()
    fresh._context_handle = None

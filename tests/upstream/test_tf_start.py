"""Which private name of TensorFlow moved, of those that `tf_start` uses."""

import pytest
from contracts import contract
from tensorflow.python.eager import context

from tfdp import testing
from tfdp.upstream.tensorflow import tf_start


@contract(
    "TFE_EnableCollectiveOps",
    "TF_NewStatus",
    "enable_collective_ops",
    "_initialize_logical_devices",
    "_initialize_lock",
    "_collective_ops_server_def",
    "_clear_caches",
    serves="a worker that waits for the others at its start is deaf to signals",
)
def test_the_names_are_there():
    assert tf_start._library() is not None
    own = context.context()
    assert all(hasattr(own, each.name) for each in tf_start._MEMBERS)
    before = own.enable_collective_ops
    with tf_start.endable_start(print):
        assert own.enable_collective_ops != before
    assert own.enable_collective_ops == before


def test_without_the_names_tensorflow_starts_as_ever(monkeypatch):
    monkeypatch.setattr(tf_start, "_library", lambda: None)
    own = context.context()
    before = own.enable_collective_ops
    with tf_start.endable_start(print):
        assert own.enable_collective_ops == before


@pytest.mark.multi_worker
@contract(
    "_context_handle",
    "TFE_EnableCollectiveOps",
    "TF_GetCode",
    "TF_Message",
    serves="workers do not start, or an error at their start has no message",
)
def test_what_tensorflow_refuses_is_its_own_error(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import tensorflow as tf\n"
        "from tfdp import testing\n"
        "from tfdp.upstream.tensorflow import tf_start\n"
        "with tf_start.endable_start(lambda thread: thread.join()):\n"
        "    try:\n"
        "        tf.distribute.MultiWorkerMirroredStrategy(\n"
        "            tf.distribute.cluster_resolver.SimpleClusterResolver(\n"
        "                tf.train.ClusterSpec({'worker': ['nobody', 'a:1']}),\n"
        "                task_type='worker', task_id=0, rpc_layer='grpc',\n"
        "            )\n"
        "        )\n"
        "    except tf.errors.OpError as error:\n"
        "        testing.report([type(error).__name__, error.message])\n"
        "import os; os._exit(0)\n"
    )
    ((kind, message),) = testing.run_workers(script, 1, timeout=400)
    assert (kind, "nobody" in message) == ("InvalidArgumentError", True)

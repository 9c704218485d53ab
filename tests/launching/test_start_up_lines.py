"""Lines that every worker of TensorFlow prints, and those that look like it."""

import pytest

from tfdp.launching import is_start_up_line

NEW = "0000 00:00:1795943291.720746   18680 "
OLD = "2024-11-29 09:07:38.123456: "


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: All log messages before absl::InitializeLog() is called are "
        "written to STDERR",
        f"I{NEW}cudart_stub.cc:31] Could not find cuda drivers on your "
        "machine, GPU will not be used.",
        f"I{NEW}cpu_feature_guard.cc:227] This TensorFlow binary is optimized "
        "to use available CPU instructions in performance-critical operations.",
        "To enable the following instructions: AVX2 FMA, in other operations, "
        "rebuild TensorFlow with the appropriate compiler flags.",
        f"E{NEW}cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA "
        "error: Failed call to cuInit: UNKNOWN ERROR (303)",
        f"E{NEW}cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting "
        "to register factory for plugin cuDNN when one has already been "
        "registered",
        f"I{NEW}generator_dataset_op.cc:213] Memory patch applied: "
        "M_TRIM_THRESHOLD=128 kb was set.",
        f"{OLD}I tensorflow/core/util/port.cc:153] oneDNN custom operations "
        "are on. You may see slightly different numerical results due to",
        f"{OLD}E external/local_xla/xla/stream_executor/cuda/cuda_driver.cc:152"
        "] failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device",
        f"{OLD}I external/local_xla/xla/tsl/cuda/cudart_stub.cc:32] Could not "
        "find cuda drivers on your machine, GPU will not be used.",
    ],
)
def test_what_tensorflow_prints_wherever_it_starts_is_known(line):
    assert is_start_up_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "epoch 1: 62 samples/s",
        "import cudart_stub.cc:31]",
        # There is a GPU, and something is wrong with it.
        f"E{NEW}cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA "
        "error: Failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        f"W{NEW}gpu_device.cc:2430] Cannot dlopen some GPU libraries.",
        f"F{NEW}cpu_feature_guard.cc:164] The TensorFlow library was compiled "
        "to use AVX2 instructions, but these aren't available",
        f"I{NEW}gpu_device.cc:2020] Created device /job:worker/task:0/GPU:0",
        f"my log: I{NEW}cudart_stub.cc:31] Could not find cuda drivers on your "
        "machine",
        "To enable the following instructions: read the manual",
        "WARNING: All log messages before absl::InitializeLog() are lost",
        "WARNING: All log messages before absl::InitializeLog() is called are "
        "written to STDERR, as I have read",
        f"I{NEW}my_port.cc:153] oneDNN custom operations are on. Hurrah",
        f"I{NEW}port.cc:153] oneDNN custom operations are off.",
        "port.cc:153] oneDNN custom operations are on.",
        f"I{NEW}cuda_platform.cc] failed call to cuInit: CUDA_ERROR_NO_DEVICE",
    ],
)
def test_what_else_is_printed_is_told(line):
    assert not is_start_up_line(line)

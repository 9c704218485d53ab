"""What TensorFlow prints while it starts, and nobody has to read."""

import re

# Before the message, "I0000 00:00:1795943291.720746   18680 port.cc:153] ", or
# "2024-11-29 09:07:38.123456: I tensorflow/core/util/port.cc:153] ".
_HEAD = (
    r"(?:[IWE]\d{4} \d\d:\d\d:\d+\.\d+ +\d+ "
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] (?:[\w.-]+/)+)"
)
# File and begin of each, since a file may have something else to tell. Of
# `cuInit`, that there is no driver or no GPU; not that one cannot be used.
_SAID = {
    "cudart_stub": "Could not find cuda drivers on your machine",
    "cpu_feature_guard": "This TensorFlow binary is optimized ",
    "port": "oneDNN custom operations are on",
    "cuda_(?:platform|diagnostics|driver|executor)": (
        r"failed call to cuInit: .*(?:\(303\)|CUDA_ERROR_NO_DEVICE)"
    ),
    "cuda_(?:fft|dnn|blas)": "Unable to register cu(?:FFT|DNN|BLAS) factory",
    "computation_placer": "computation placer already registered",
    "py_utils": "TF-TRT Warning: Could not find TensorRT",
    "generator_dataset_op": "Memory patch applied",
    "dataset": "Input of GeneratorDatasetOp::Dataset will not be optimized",
}
_LINES = re.compile(
    "|".join(
        (
            r"WARNING: All log messages before absl::InitializeLog\(\) is "
            "called are written to STDERR$",
            "To enable the following instructions: .*, in other operations, "
            "rebuild TensorFlow",
            *(
                rf"{_HEAD}{file}\.cc:\d+\] {words}"
                for file, words in _SAID.items()
            ),
        )
    )
)


def is_start_up_line(line: str) -> bool:
    """Whether a line is one that TensorFlow prints wherever it starts.

    Args:
        line: A line of a worker's output.

    Example:

    >>> is_start_up_line(
    ...     "I0000 00:00:1795943291.720746   18680 cudart_stub.cc:31] Could "
    ...     "not find cuda drivers on your machine, GPU will not be used."
    ... )
    True
    >>> is_start_up_line("global batch 128")
    False
    """
    return _LINES.match(line) is not None

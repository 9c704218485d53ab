"""Several devices out of one processor."""

from tfdp.checks import checked_count

# Each has threads and memory of its own.
_MOST_DEVICES = 1024


def logical_cpus(count: int) -> list[str]:
    """Splits the host's processor into `count` logical devices.

    A strategy over them has as many replicas, which compute what replicas on
    GPUs would. TensorFlow fixes its devices when its runtime starts, which any
    operation, variable or strategy makes it do; call this before. When the
    runtime is up with `count` logical processors, only the names are returned.

    Args:
        count: Number of logical devices; at least 1.

    Returns:
        Their names, `["CPU:0", "CPU:1", ...]`.

    Raises:
        TypeError: If `count` is not an integer.
        ValueError: If `count` is below 1 or above 1024.
        RuntimeError: If TensorFlow has started with another number.

    Example:

    ```python
    # conftest.py
    def pytest_configure(config):
        tfdp.testing.logical_cpus(4)

    # test_model.py
    strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(4)[:2])
    ```
    """
    count = checked_count(
        "count", count, minimum=-(10**40), maximum=_MOST_DEVICES
    )
    if count < 1:
        raise ValueError(
            "`count` must be at least 1. Received: "
            f"count={count}. Use 1 for the processor as one device."
        )
    import tensorflow as tf

    processor = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        actual = len(tf.config.list_logical_devices("CPU"))
        if actual != count:
            raise RuntimeError(
                "Logical devices must be made before TensorFlow starts its "
                f"runtime. Received: count={count}, with the runtime started "
                f"on {actual}. Call `logical_cpus({count})` before anything "
                "else, for example in `pytest_configure` of conftest.py."
            ) from error
    return [f"CPU:{i}" for i in range(count)]

"""What this machine has for training: devices, cores, number formats.

TensorFlow, Keras and what needs NumPy are imported by the functions that ask
them.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil

from tfdp.cluster import Cluster
from tfdp.doctor.section import Line, Section
from tfdp.machine import free_memory, kernel_variables, usable_cores
from tfdp.settings import COMMUNICATION, ONEDNN, onednn

_FEW_CORES = 2


def devices(cluster: Cluster | None) -> Section:
    """Looks at processors, memory and GPUs, and at who gets which.

    Args:
        cluster: The job's cluster, if it has one.

    Returns:
        What was found.
    """
    import tensorflow as tf

    total = psutil.virtual_memory().total
    lines = [
        Line(
            "fine",
            f"{usable_cores()} CPU cores, {total / 2**30:.1f} GiB of "
            f"memory, {free_memory() / 2**30:.1f} GiB of it available",
        )
    ]
    with quiet():
        gpus = tf.config.list_physical_devices("GPU")
        names = [
            _gpu(tf.config.experimental.get_device_details(g)) for g in gpus
        ]
    lines += [Line("fine", f"GPU {i}: {name}") for i, name in enumerate(names)]
    driver = _gpus_of_the_driver()
    lines += [Line("fine", f"driver: {gpu}") for gpu in driver]
    if driver and not gpus:
        lines.append(
            Line(
                "warning",
                "TensorFlow should see the GPUs. Received: none, of "
                f"{len(driver)} that the driver sees. Install "
                "tensorflow[and-cuda], or look at CUDA_VISIBLE_DEVICES.",
            )
        )
    if not driver and not gpus:
        lines.append(Line("fine", "no GPU"))
    if cluster:
        lines += _shares(cluster, len(gpus), len(driver))
    return Section("devices", tuple(lines))


def _gpu(details: dict[str, Any]) -> str:
    name = details.get("device_name", "unknown")
    capability = details.get("compute_capability")
    if not capability:
        return name
    return f"{name}, compute capability {capability[0]}.{capability[1]}"


def _gpus_of_the_driver() -> list[str]:
    """Name and memory of each GPU; TensorFlow would have to reserve it."""
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    query = "--query-gpu=name,memory.total,memory.used"
    try:
        output = subprocess.run(
            [program, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in output.splitlines()]
    return [
        f"{row[0]}, {row[1]}, {row[2]} in use" for row in rows if len(row) == 3
    ]


def _shares(cluster: Cluster, visible: int, of_driver: int) -> list[Line]:
    mine = cluster.visible_gpus
    if mine is not None and visible <= max(mine, default=-1):
        return [
            Line(
                "error",
                "A worker's GPUs must be visible to it. Received: GPUs "
                f"{list(mine)} of {visible}. Ask Slurm to bind them: srun "
                "--gpus-per-task.",
            )
        ]
    workers = _workers_here(cluster)
    if mine is None and workers > 1 and visible and visible == of_driver:
        return [
            Line(
                "warning",
                "Workers of one host should have GPUs of their own. Received: "
                f"{workers} workers, and all {visible} GPU(s) of the host "
                "visible to this one. Give each its own CUDA_VISIBLE_DEVICES.",
            )
        ]
    return []


def cores(cluster: Cluster | None) -> Section:
    """Looks at how many cores and threads a worker of this host has.

    Args:
        cluster: The job's cluster, if it has one.

    Returns:
        What was found.
    """
    import tensorflow as tf

    cores, workers = usable_cores(), _workers_here(cluster)
    # A process confined to some cores has those to itself.
    is_confined = cores < (os.cpu_count() or cores)
    share = cores if is_confined else cores // workers
    threads = {
        "inter-op": tf.config.threading.get_inter_op_parallelism_threads(),
        "intra-op": tf.config.threading.get_intra_op_parallelism_threads(),
    }
    kinds = ", ".join(
        f"{name} threads: {number or f'one per core ({cores})'}"
        for name, number in threads.items()
    )
    lines = [
        Line(
            "fine",
            f"{cores} core(s) for this process"
            + (f" of {os.cpu_count()}" if is_confined else "")
            + f", {workers} worker(s) on this host",
        ),
        Line("fine", kinds),
    ]
    usable = min(share, threads["inter-op"] or share)
    if usable < 1:
        lines.append(
            Line(
                "warning",
                "Every worker of a host should have a core. Received: "
                f"{workers} workers on {cores} core(s). Start fewer.",
            )
        )
    elif usable <= _FEW_CORES and workers > 1 and not is_confined:
        # There tfdp does not see that the cores are shared.
        lines.append(
            Line(
                "warning",
                "A worker should have more than two cores, or know that it "
                f"has not: `fit` may end late. Received: {cores} cores for "
                f"{workers} workers. Start fewer, or confine each to its own "
                "(srun --cpus-per-task, taskset); then tfdp adapts.",
            )
        )
    elif usable <= _FEW_CORES:
        lines.append(
            Line(
                "fine",
                "with so few, tfdp turns off the autotuner of input pipelines",
            )
        )
    return Section("cores", tuple(lines))


def kernels() -> Section:
    """Looks at which kernels TensorFlow computes with on the CPU.

    Returns:
        What was found.
    """
    from tfdp.upstream.tensorflow import tf_runtime

    uses_onednn = tf_runtime.uses_onednn()
    if uses_onednn is False and kernel_variables():
        line = Line(
            "warning",
            "TensorFlow should use oneDNN's kernels, which take up to 2.6 "
            f"times less. Received: Eigen's; {ONEDNN} is {onednn() or 'unset'}."
            " Set it to 1 before the program starts; `tfdp launch` does where "
            "it is unset.",
        )
    else:
        names = {True: "oneDNN", False: "Eigen", None: "of an unknown kind"}
        line = Line("fine", f"on the CPU: {names[uses_onednn]}")
    return Section("kernels", (line,))


def communication() -> Section:
    """Looks at what gradients would travel by between workers on CPUs.

    Returns:
        What was found.
    """
    from tfdp.transport import checked_communication, obstacle

    try:
        chosen = checked_communication(None)
    except ValueError as error:
        return Section("communication", (Line("error", str(error)),))
    problem = obstacle()
    if chosen == "tensorflow":
        line = Line("fine", "gradients travel by TensorFlow, as asked for")
    elif not problem:
        line = Line("fine", "gradients travel by gloo, if all workers have it")
    elif chosen == "auto":
        line = Line(
            "fine",
            f"gradients travel by TensorFlow: {problem}; between CPUs gloo "
            "takes less time (pip install 'tfdp[gloo]')",
        )
    else:
        line = Line(
            "error",
            "What gradients are to travel by must be there. Received: "
            f"{COMMUNICATION}=gloo; {problem}. Install it by pip install "
            "'tfdp[gloo]', or unset the variable.",
        )
    return Section("communication", (line,))


def precision() -> Section:
    """Looks at which number format the hardware computes in fastest."""
    import keras

    from tfdp.precision import set_precision

    before = keras.config.dtype_policy()
    try:
        with quiet():
            chosen = set_precision("auto", verbose=False)
    finally:
        keras.config.set_dtype_policy(before)
    return Section("precision", (Line("fine", f"the hardware suits {chosen}"),))


def _workers_here(cluster: Cluster | None) -> int:
    if cluster is None or not cluster.address:
        return 1
    host, _, _ = cluster.address.rpartition(":")
    here = set(cluster.hosts[host])
    return max(1, len(here & set(cluster.workers)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what TensorFlow's C++ code has to say on stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

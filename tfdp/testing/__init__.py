"""What a test of data-parallel training needs, without any accelerator.

Replicas: `logical_cpus` makes several devices out of the host's processor.
Workers: `run_workers` runs a script or a function as several processes, each
of which hands its findings back. pytest has both as fixtures.
"""

from tfdp.testing.devices import logical_cpus as logical_cpus
from tfdp.testing.workers import report as report
from tfdp.testing.workers import run_workers as run_workers

__all__ = ["logical_cpus", "report", "run_workers"]

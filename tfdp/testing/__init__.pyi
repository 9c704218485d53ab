from .devices import logical_cpus as logical_cpus
from .workers import report as report
from .workers import run_workers as run_workers

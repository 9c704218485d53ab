"""What one machine gives to its processes: cores, ports, memory.

Knows no other room, no TensorFlow, and nothing of workers.
"""

from tfdp.machine.allocator import tunables
from tfdp.machine.cores import (
    core_shares,
    keep_to,
    thread_variables,
    usable_cores,
)
from tfdp.machine.free_memory import free_memory
from tfdp.machine.isolation import isolate
from tfdp.machine.kernels import kernel_variables
from tfdp.machine.memory_folder import MemoryFolder
from tfdp.machine.out_of_memory import oom_kills
from tfdp.machine.ports import is_of_this_machine
from tfdp.machine.signals import ending_signals

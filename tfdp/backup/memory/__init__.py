"""Backups in memory, as often as training hardly waits for them."""

from tfdp.backup.memory.memory_copy import MemoryCopy
from tfdp.backup.memory.pauses import Pauses

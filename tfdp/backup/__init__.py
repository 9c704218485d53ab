"""What a training is made of, how it is put on disk, and how it goes on.

Knows the optimizer, strategies and agreement. When to back up is decided by a
callback, which it must not know.
"""

from tfdp.backup.backup_folder import Backup, BackupFolder
from tfdp.backup.callback_states import (
    CallbackStates,
    arrays_of_model,
)
from tfdp.backup.contents import check_contents
from tfdp.backup.courses import Replay, course_of, is_replaying
from tfdp.backup.differences import differences
from tfdp.backup.handover import Handover
from tfdp.backup.random_numbers import random_numbers
from tfdp.backup.sharing import shared
from tfdp.backup.training_state import TrainingState, check_built

"""What a training is made of, how it is backed up, and how it goes on.

Knows the optimizer, strategies and agreement. When to back up is decided by a
callback, which it must not know.
"""

from tfdp.backup.backup_folder import Backup
from tfdp.backup.backups import Backups
from tfdp.backup.callback_states import (
    CallbackStates,
    arrays_of_model,
)
from tfdp.backup.courses import Replay, course_of, is_replaying, replay_of
from tfdp.backup.differences import differences
from tfdp.backup.handover import Handover
from tfdp.backup.history import fill_history, history_of
from tfdp.backup.random_numbers import RandomNumbers
from tfdp.backup.training_state import TrainingState, check_built
from tfdp.backup.update_size import UpdateSize

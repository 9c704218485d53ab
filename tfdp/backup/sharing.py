"""The chief's backup, for workers that do not see its files."""

import numpy as np

from tfdp.agreement import Workers, broadcast, gather_objects
from tfdp.backup.backup_folder import Backup


def shared(strategy: Workers, backup: Backup | None) -> Backup | None:
    """Gives every worker the chief's backup; a collective.

    Args:
        strategy: The strategy whose workers meet.
        backup: What the chief has read, if anything; not looked at on others.

    Returns:
        The chief's, or `None` where it has none.
    """
    if strategy.num_workers == 1:
        return backup
    own = backup and [
        backup.about,
        {name: (a.shape, a.dtype.str) for name, a in backup.arrays.items()},
    ]
    of_chief = gather_objects(strategy, own)[0]
    if of_chief is None:
        return None
    about, arrays = of_chief
    return Backup(
        {
            name: broadcast(
                strategy,
                backup.arrays[name] if backup else np.zeros(shape, dtype),
            )
            for name, (shape, dtype) in arrays.items()
        },
        about,
    )

"""How many updates a training has made, by one optimizer after another."""

from collections.abc import Iterable

import keras

from tfdp.upstream.keras import inspection


class UpdateCount:
    """Counts the updates of a model's optimizers, those before them included.

    A model that is compiled again in the middle of a training gets another
    optimizer, which counts from zero. What orders files or rows by updates
    must go on.

    Args:
        model: The model that is fitted.

    Attributes:
        optimizers_before: How often the model was seen with others than
            before.
    """

    def __init__(self, model: keras.Model) -> None:
        self._of_model = inspection.Optimizers(model)
        self._before = 0
        self.optimizers_before = 0
        self._optimizers = self._of_model.now()

    def now(self) -> int:
        """Returns the updates made or skipped so far."""
        optimizers = self._of_model.now()
        if not _are_same(optimizers, self._optimizers):
            staying = [o for o in optimizers if o in self._optimizers]
            self._before += inspection.updates(self._optimizers)
            # One that stays counts on by itself.
            self._before -= inspection.updates(staying)
            self._optimizers = optimizers
            self.optimizers_before += 1
        return self._before + inspection.updates(optimizers)

    def set(self, updates: int) -> None:
        """Says how many were made, in another process perhaps."""
        self._before += updates - self.now()


def _are_same(
    some: Iterable[keras.optimizers.Optimizer],
    others: Iterable[keras.optimizers.Optimizer],
) -> bool:
    return [id(each) for each in some] == [id(each) for each in others]

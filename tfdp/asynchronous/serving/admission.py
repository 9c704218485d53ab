"""Whether a worker may take part in the fit at hand."""

from tfdp.asynchronous.batch_queue import BatchQueue
from tfdp.asynchronous.description import Description
from tfdp.asynchronous.serving.fits import Fits


class Admission:
    """Knows what the chief trains, and how; whoever does otherwise is refused.

    Who comes when the first epoch is over begins where the others are, whatever
    epoch its program begins with. After the first `fit` the chief's learning
    rate may be one that callbacks have set.

    Attributes:
        chief: What the chief trains in the fit at hand.
    """

    def __init__(self) -> None:
        self.chief: Description | None = None

    def check(
        self,
        worker: int,
        description: Description,
        fits: Fits,
        queue: BatchQueue,
    ) -> None:
        """Checks what a worker is about to train.

        Args:
            worker: Its index.
            description: What that is.
            fits: Which fit is at hand, and where it has begun.
            queue: Its batches; those of who is refused go to the others.

        Raises:
            ValueError: If it is not what the chief trains.
        """
        if self.chief is None:
            return
        overruled = []
        position = queue.position
        if position and position.epoch > (fits.first_epoch or 0):
            overruled.append("initial_epoch")
        if fits.ended:
            overruled.append("learning_rate")
        try:
            self.chief.check_same(
                description, worker=worker, overruled=overruled
            )
        except ValueError:
            queue.lose(worker)
            raise

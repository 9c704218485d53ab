"""The gradient noise scale, and the batch that it makes useful."""

from typing import Any

import keras

from tfdp.checks import checked_verbose
from tfdp.optimizer import DistributedOptimizer, NoiseScale
from tfdp.synchronization import checked_smoothing


class NoiseScaleMonitor(keras.callbacks.Callback):
    """Measures how large a batch is still useful, while training.

    The gradients of replicas and micro-batches differ by noise alone, which
    their norms tell apart from the signal, at no further collective. At the
    end of an epoch it adds to the logs, for `History` and the callbacks that
    come after it:

    | Key               | Unit      | Value                               |
    | ----------------- | --------- | ----------------------------------- |
    | `noise_scale`     | samples   | `gradient_noise / gradient_signal`  |
    | `gradient_noise`  | (dL/dw)^2 | trace of one sample's covariance    |
    | `gradient_signal` | (dL/dw)^2 | squared norm of the mean gradient   |

    The noise scale is the batch at which noise and signal are alike: far
    below it, twice the batch takes half the updates; far above it, twice the
    batch is twice the work for nothing. It grows as the loss falls, often by
    an order of magnitude. At the end of training it says in words what that
    means for this run: whether more replicas would pay, and how far
    accumulation may go.

    It needs `tfdp.DistributedOptimizer` in the scope of a tfdp strategy, with
    at least two replicas or accumulation steps, and losses that are means over
    samples. Norms cost one pass over the gradients per micro-batch. What was
    begun is measured in later fits too, and averaged on, until the model is
    compiled with another optimizer. Put it after `callbacks.DataParallel()`.

    That twice the batch takes half the updates is a model of SGD, each batch
    at its best learning rate; of other optimizers it tells the order.

    Args:
        smoothing: Weight of the past in the moving averages of noise and
            signal, per update, in `[0, 1)`. The first updates are averaged
            alike. Defaults to 0.99.
        verbose: 1 to print the words at the end of training, on the chief; 0
            to print nothing. Defaults to 1.

    Attributes:
        noise_scale: The last `tfdp.optimizer.noise_scale.NoiseScale`; `None`
            before the end of the first epoch.

    Raises:
        TypeError: If `smoothing` is not a number, or `verbose` no integer.
        ValueError: If one is out of range.
        RuntimeError: At the begin of training, if the optimizer is not a
            `tfdp.DistributedOptimizer`, has but one gradient per update, or
            lives under a strategy that counts no samples.

    Example:

    >>> monitor = tfdp.callbacks.NoiseScaleMonitor(smoothing=0.9)
    >>> callbacks = [tfdp.callbacks.DataParallel(), monitor]

    Reference:
        McCandlish et al., 2018, section 2.2 and appendix A.1.
        https://arxiv.org/abs/1812.06162
    """

    def __init__(self, *, smoothing: float = 0.99, verbose: int = 1) -> None:
        super().__init__()
        self.smoothing = checked_smoothing(smoothing)
        self.verbose = checked_verbose(verbose)
        self.noise_scale: NoiseScale | None = None

    def set_model(self, model: keras.Model) -> None:
        """Has the optimizer measure, before `fit` makes its graph.

        Args:
            model: The compiled model.
        """
        super().set_model(model)
        if self._measure():
            # Keras makes it anew.
            model.train_function = None

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Has another optimizer measure, where the model was compiled again."""
        if self.model.optimizer is not self._optimizer and self._measure():
            self.model.make_train_function(force=True)

    def _measure(self) -> bool:
        """Returns whether the graph of a step must be made anew."""
        optimizer = self._optimizer = self.model.optimizer
        if not isinstance(optimizer, DistributedOptimizer):
            raise RuntimeError(
                "`callbacks.NoiseScaleMonitor` needs an optimizer that "
                "compares the gradients of replicas and micro-batches. "
                f"Received: {type(optimizer).__name__}. Compile with "
                "`tfdp.DistributedOptimizer(inner_optimizer)`."
            )
        return optimizer.measure_noise(self.smoothing)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs the noise scale."""
        self.noise_scale = self.model.optimizer.noise_scale
        if logs is not None:
            logs.update(self.figures())

    def figures(self) -> dict[str, float]:
        """Returns noise, signal and their ratio, by their names in logs."""
        found = self.model.optimizer.noise_scale
        return {
            "noise_scale": found.samples,
            "gradient_noise": found.noise,
            "gradient_signal": found.signal,
        }

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Says what it means."""
        is_chief = self.model.distribute_strategy.is_chief
        if self.verbose and is_chief and self.noise_scale is not None:
            print(f"tfdp: {self.noise_scale}", flush=True)

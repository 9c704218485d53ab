"""A `fit` of Keras's that notes how it calls what is tfdp's."""

import inspect

import keras
import tensorflow as tf

from tfdp.upstream.keras import keras_data, keras_fit


class Recording(tf.distribute.MirroredStrategy):
    """Notes how Keras calls what tfdp's strategies override."""

    def __init__(self):
        super().__init__(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        self.given_to_run = []
        self.callers_of_reduce = []
        self.symbolic_builds = []
        self.callers_of_distribute = []
        self.arrays = []
        self.trained_from = []

    def run(self, fn, args=(), kwargs=None, options=None):
        self.given_to_run.append(fn)
        return super().run(fn, args, kwargs, options)

    def reduce(self, reduce_op, value, axis):
        caller = inspect.currentframe().f_back
        self.callers_of_reduce.append(caller.f_code.co_name)
        self.symbolic_builds.append(keras_fit.is_symbolic_build())
        return super().reduce(reduce_op, value, axis)

    def experimental_distribute_dataset(self, dataset, options=None):
        caller = inspect.currentframe().f_back
        self.callers_of_distribute.append(
            (caller.f_code.co_name, caller.f_locals.get("self"))
        )
        self.arrays.append(keras_data.arrays(caller.f_locals.get("self")))
        self.trained_from.append(
            keras_fit.trained_from(caller.f_locals.get("self"))
        )
        return super().experimental_distribute_dataset(dataset, options)


class Asking(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.found = {}

    def on_train_begin(self, logs=None):
        self.found["on_train_begin"] = keras_fit.callbacks_in_use()

    def on_train_batch_end(self, batch, logs=None):
        self.found["on_train_batch_end"] = keras_fit.callbacks_in_use()

    def on_test_begin(self, logs=None):
        self.found["on_test_begin"] = keras_fit.callbacks_in_use()

    def on_epoch_end(self, epoch, logs=None):
        self.found["on_epoch_end"] = keras_fit.callbacks_in_use()


class Placing(keras.callbacks.Callback):
    """Puts a callback after itself, and looks at the fit around it."""

    def __init__(self, placed):
        super().__init__()
        self.placed = placed
        self.fits = []

    def on_train_begin(self, logs=None):
        keras_fit.change_callbacks(lambda callbacks: [*callbacks, self.placed])
        self.fits.append(keras_fit.fit_under_way())

    def on_train_batch_end(self, batch, logs=None):
        self.fits.append(keras_fit.fit_under_way())

    def on_test_begin(self, logs=None):
        self.fits.append(keras_fit.fit_under_way())

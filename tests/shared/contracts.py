"""What an upstream change is reported with."""

import functools

import keras
import tensorflow as tf


def contract(*names, serves):
    """Makes a failure of the test say what moved and what it breaks."""

    def decorate(test):
        @functools.wraps(test)
        def checked(*args, **kwargs):
            try:
                test(*args, **kwargs)
            except Exception as error:
                raise AssertionError(
                    f"{', '.join(names)} moved or changed in Keras "
                    f"{keras.__version__} / TensorFlow {tf.__version__}. "
                    f"Without it, {serves}. {type(error).__name__}: {error}"
                ) from error

        return checked

    return decorate

"""What gives the `fit` that is running its batches."""

from tfdp.strategy import CountedDataset
from tfdp.throughput import Feed
from tfdp.upstream.keras import keras_data, keras_fit
from tfdp.upstream.private import MissingNameError
from tfdp.upstream.tensorflow import tf_datasets


def asks_for_data() -> bool:
    """Whether workers of the `fit` that is running ask each other for data.

    Returns:
        `False` where all have as many batches, and know it.
    """
    try:
        epoch_iterator = keras_fit.fit_under_way()
        if epoch_iterator is None:
            return True
        dataset = keras_data.distributed_dataset(epoch_iterator)
    except MissingNameError:
        # Nor for figures.
        return True
    return not getattr(dataset, "ends_together", False)


def feed_of_fit() -> Feed:
    """Returns where the batches of the `fit` that is running come from.

    Returns:
        A feed, of an unknown kind where Keras or TensorFlow does not tell.
    """
    try:
        epoch_iterator = keras_fit.fit_under_way()
        if epoch_iterator is None:
            return Feed()
        kind = keras_data.kind_of_data(epoch_iterator)
        if kind != "dataset":
            return Feed(kind)
        dataset = keras_data.distributed_dataset(epoch_iterator)
        if not isinstance(dataset, CountedDataset):
            return Feed()
        return Feed(kind, tf_datasets.pipeline_steps(dataset.given))
    except MissingNameError:
        # It is for an advice alone, for which no training should fail.
        return Feed()

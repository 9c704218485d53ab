"""Handwritten digits as a TensorFlow Dataset, made without a download.

The images are scikit-learn's copy of the UCI set "Optical Recognition of
Handwritten Digits": 1,797 images of 8 x 8 pixels. Copy this file to bring
images of your own: say what an image is in `_info`, and where the images come
from in `_split_generators` and `_generate_examples`.
"""

import pathlib

import filelock
import numpy as np
import sklearn.datasets
import sklearn.model_selection
import tensorflow_datasets as tfds

HELD_OUT = 0.2
SPLIT_SEED = 0  # fixed: every run is judged by the same images


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,437 images to train on and 360 held out, each digit in both."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of the UCI repository, 8 x 8.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        digits = sklearn.datasets.load_digits()
        train, test = sklearn.model_selection.train_test_split(
            np.arange(len(digits.target)),
            test_size=HELD_OUT,
            stratify=digits.target,
            random_state=SPLIT_SEED,
        )
        return {
            "train": self._generate_examples(digits, train),
            "test": self._generate_examples(digits, test),
        }

    def _generate_examples(self, digits, places):
        for place in places:
            gray = digits.images[place, :, :, np.newaxis] * 255 / 16
            yield (
                int(place),
                {
                    "image": gray.round().astype(np.uint8),
                    "label": digits.target[place],
                },
            )


def prepared(name, data_dir):
    """Returns the TFDS builder of a dataset that lies ready in `data_dir`.

    Workers of one machine, or with one file system, may call it at once: one
    of them prepares the data, and the others wait for it.
    """
    data_dir = pathlib.Path(data_dir).expanduser()
    tfds.disable_progress_bar()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(data_dir / ".lock"):
            builder = tfds.builder(name, data_dir=data_dir)
            info = builder.info
            if (
                info.supervised_keys != ("image", "label")
                or None in info.features["image"].shape
            ):
                raise ValueError(
                    "It must have images of one size, and a label for each. "
                    f"Received: {info.features}"
                )
            builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError:
        raise ValueError(
            f"Dataset {name!r} is unknown. TensorFlow Datasets has those of "
            f"https://www.tensorflow.org/datasets/catalog, and {data_dir} is "
            "looked through for others."
        ) from None
    except (AssertionError, OSError, ValueError) as error:
        raise ValueError(f"Dataset {name!r}: {error}") from error
    return builder

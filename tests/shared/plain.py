"""Functions for `run_workers` that need neither tfdp nor TensorFlow."""

import json
import os
import sys
import time


def place(*args):
    task = json.loads(os.environ["TF_CONFIG"])["task"]
    return [task["index"], list(args), "tensorflow" in sys.modules]


class Places:
    @staticmethod
    def of(name):
        return [name]


def no_json():
    return object()


def wait():
    print("waits", place()[0])
    time.sleep(600)

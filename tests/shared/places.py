"""Where the tests find what is not theirs."""

import pathlib

SHARED = pathlib.Path(__file__).parent
TESTS = SHARED.parent
ROOT = TESTS.parent

"""Where a fit goes on in data whose batches have numbers."""

import pytest
import tensorflow as tf

from tfdp.backup.courses.numbered_course import NumberedCourse


@pytest.fixture
def course():
    return NumberedCourse()


def test_the_order_is_that_of_the_seed(course):
    tf.random.set_seed(3)
    about = course.place(in_epoch=True)
    for seed, is_same in ((3, True), (4, False)):
        tf.random.set_seed(seed)
        went = course.go_to(about, lambda batches: batches, lambda: None)
        assert went == (is_same, None)


def test_how_many_steps_a_worker_has_nobody_knows(course):
    assert course.steps({"steps": 5}) is None
    assert course.complaint() == ""

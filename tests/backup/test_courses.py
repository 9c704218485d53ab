"""Whether, and where, a fit goes on in data whose batches have numbers."""

import types

import pytest
import tensorflow as tf

from tfdp.asynchronous.feed import Feed
from tfdp.backup.courses.numbered_course import NumberedCourse


@pytest.fixture
def feed():
    return Feed()


@pytest.fixture
def course(feed):
    return NumberedCourse(types.SimpleNamespace(feed=feed))


def arrives(course, about):
    return course.go_to(about, lambda batches: batches, lambda: None)


def test_batches_without_numbers_are_told(course, feed):
    assert "data that each worker goes through by itself" in course.complaint()
    feed.is_used = True
    assert course.complaint() == ""


def test_the_order_is_that_of_the_seed(course, feed):
    feed.is_used = True
    tf.random.set_seed(3)
    about = course.place(in_epoch=True)
    assert arrives(course, about) == (True, None)
    tf.random.set_seed(4)
    assert arrives(course, about) == (False, None)


def test_without_numbers_there_is_no_order(course):
    tf.random.set_seed(3)
    about = course.place(in_epoch=True)
    tf.random.set_seed(4)
    assert arrives(course, about) == (True, None)


def test_how_many_steps_a_worker_has_is_no_ones_to_know(course):
    assert course.steps({"steps": 5}) is None

import numpy as np
import pytest

from tfdp.throughput.step_times import StepLog, StepTimes


def stamps(*rows):
    """Data there, gradients there, reduced, samples; of one replica."""
    return np.array(rows, float).reshape(-1, 4)


def taken(steps, *by_replica, is_whole=False, left_out=(), requests=()):
    log = StepLog(len(by_replica))
    for place, (begin, end) in enumerate(steps):
        log.add_step(begin, end, is_left_out=place in left_out)
    log.add_stamps([stamps(*rows) for rows in by_replica], requests)
    return log.take(is_whole=is_whole)


def test_parts_of_a_step_lie_between_its_stamps():
    times = taken([(10, 15)], [(11, 13, 14, 8)], [(10.5, 13.5, 14, 6)])
    np.testing.assert_array_equal(times.seconds, [5])
    np.testing.assert_array_equal(times.updates, [1])
    np.testing.assert_array_equal(times.samples, [[8], [6]])
    np.testing.assert_array_equal(times.input, [[1], [0.5]])
    np.testing.assert_array_equal(times.compute, [[2], [3]])
    np.testing.assert_array_equal(times.synchronization, [[1], [0.5]])


def test_waiting_for_data_begins_where_it_is_asked_for():
    times = taken(
        [(10, 15), (20, 24)],
        [(11, 13, 14, 8), (22, 23, 24, 8)],
        [(10.5, 13.5, 14, 6), (21, 23, 24, 6)],
        requests=[9, 10.25, 16, 20.75],
    )
    np.testing.assert_array_equal(times.start, [0.25, 0.75])
    np.testing.assert_array_equal(times.input, [[0.75, 1.25], [0.25, 0.25]])


def test_of_steps_executed_together_the_first_request_ends_the_start():
    # The second is ahead of the first micro-batch's end.
    rows = [(2, 4, 5, 8), (3, 7, 8, 8), (9, 9.5, 9.75, 8)]
    times = taken([(0, 10)], rows, requests=[1.5, 2, 6])
    np.testing.assert_array_equal(times.start, [1.5])
    np.testing.assert_array_equal(times.input, [[0.5 + 0 + 1]])


def test_without_a_request_all_before_the_data_is_waiting_for_it():
    times = taken([(0, 5)], [(2, 3, 4, 8)], requests=[6])
    assert times.start.tolist() == [0]
    assert times.input.tolist() == [[2]]


def test_requests_of_an_unfinished_update_are_kept():
    log = StepLog(1)
    log.add_step(0, 2, is_left_out=False)
    log.add_stamps([stamps((1, 1.5, 0, 4))], [0.5])
    assert log.take(is_whole=False).entries == 0
    log.add_step(3, 5, is_left_out=False)
    log.add_stamps([stamps((4, 4.5, 5, 4))], [3.25])
    times = log.take(is_whole=False)
    assert times.start.tolist() == [0.75]
    assert times.input.tolist() == [[0.5 + 0.75]]


def test_an_update_is_the_sum_of_its_micro_batches():
    times = taken(
        [(0, 2), (3, 5), (5, 7), (8, 11)],
        [(0.5, 2, 0, 4), (4, 4.5, 5, 4), (5, 6, 0, 4), (9, 10, 10.5, 1)],
    )
    np.testing.assert_array_equal(times.seconds, [4, 5])
    np.testing.assert_array_equal(times.between, [1, 1])
    np.testing.assert_array_equal(times.samples, [[8, 5]])
    np.testing.assert_array_equal(times.input, [[1.5, 1]])
    np.testing.assert_array_equal(times.compute, [[2, 2]])
    np.testing.assert_array_equal(times.synchronization, [[0.5, 0.5]])


def test_steps_executed_together_share_an_entry():
    # The data of the second was there before the first was done.
    times = taken([(0, 10)], [(1, 3, 4, 8), (2, 6, 7, 8), (9, 9.5, 9.75, 8)])
    np.testing.assert_array_equal(times.updates, [3])
    np.testing.assert_array_equal(times.seconds, [10])
    np.testing.assert_array_equal(times.samples, [[24]])
    np.testing.assert_array_equal(times.input, [[1 + 0 + 2]])
    np.testing.assert_array_equal(times.compute, [[2 + 2 + 0.5]])
    np.testing.assert_array_equal(times.synchronization, [[1 + 1 + 0.25]])


def test_exchanges_are_of_the_update_that_they_end():
    log = StepLog(1)
    for begin, exchanging, room in [(0, 0.0, 0.0), (2, 0.5, 0.25), (4, 0, 0)]:
        log.add_step(
            begin,
            begin + 2,
            is_left_out=False,
            exchanging=exchanging,
            room=room,
        )
    log.add_stamps([stamps((0, 1, 0, 4), (2, 3, 3, 4), (4, 5, 0, 4))])
    times = log.take(is_whole=False)
    assert times.exchanging.tolist() == [0.5]
    assert times.room.tolist() == [0.25]
    assert log.take(is_whole=True).exchanging.tolist() == [0]


def test_an_unfinished_update_waits_for_the_next_time():
    log = StepLog(1)
    log.add_step(0, 2, is_left_out=False)
    log.add_step(3, 5, is_left_out=False)
    log.add_stamps([stamps((0, 1, 1, 4), (3, 4, 0, 4))])
    first = log.take(is_whole=False)
    assert first.samples.tolist() == [[4]]
    log.add_step(6, 8, is_left_out=False)
    log.add_stamps([stamps((6, 7, 7.5, 4))])
    second = log.take(is_whole=False)
    assert second.samples.tolist() == [[8]]
    assert second.seconds.tolist() == [4]
    assert second.between.tolist() == [2]
    assert log.take(is_whole=True).entries == 0


def test_what_an_epoch_leaves_over_is_an_update_of_the_flush():
    steps, rows = [(0, 1), (1, 2)], [(0, 1, 1, 4), (1.5, 2, 0, 3)]
    times = taken(steps, rows, is_whole=True)
    np.testing.assert_array_equal(times.updates, [1, 1])
    np.testing.assert_array_equal(times.samples, [[4, 3]])
    np.testing.assert_array_equal(times.synchronization, [[0, 0]])


def test_time_before_an_epoch_is_not_between_steps():
    log = StepLog(1)
    log.add_step(0, 1, is_left_out=False)
    log.add_stamps([stamps((0, 1, 1, 4))])
    log.take(is_whole=True)
    log.begin_epoch()
    log.add_step(100, 101, is_left_out=False)
    log.add_step(103, 104, is_left_out=False)
    log.add_stamps([stamps((100, 101, 101, 4), (103, 104, 104, 4))])
    assert log.take(is_whole=True).between.tolist() == [0, 2]


def test_training_between_steps_is_not_counted():
    rows = [(0, 1, 1, 4), (2, 2.5, 2.5, 9), (3, 4, 4, 4), (8, 9, 9, 9)]
    times = taken([(0, 2), (3, 5)], [(-2, -1, -1, 9), *rows])
    np.testing.assert_array_equal(times.samples, [[4, 4]])


def test_steps_that_train_on_nothing_take_no_time():
    times = taken([(0, 2), (3, 5)], [(3, 4, 4, 4)])
    np.testing.assert_array_equal(times.seconds, [2])
    np.testing.assert_array_equal(times.updates, [1])
    assert taken([(0, 2)], [], is_whole=True).entries == 0


def test_an_update_is_left_out_with_any_of_its_steps():
    steps = [(0, 1), (1, 2), (2, 3), (3, 4)]
    rows = [(0, 1, 0, 1), (1, 2, 2, 1), (2, 3, 0, 1), (3, 4, 4, 1)]
    times = taken(steps, rows, left_out={1})
    np.testing.assert_array_equal(times.is_left_out > 0, [True, False])
    assert times.keeping(times.is_left_out == 0).seconds.tolist() == [2]


@pytest.mark.parametrize("capacity", [2, 8])
def test_all_numbers_travel_as_a_vector(capacity):
    times = taken(
        [(0, 2), (3, 5)],
        [(0.5, 1, 2, 4), (3, 4, 4, 4)],
        [(0.25, 1, 2, 3), (3, 4, 5, 3)],
    )
    vector = times.as_vector(capacity)
    back = StepTimes.from_vector(vector, replicas=2)
    for name in vars(times):
        np.testing.assert_array_equal(getattr(back, name), getattr(times, name))


def test_entries_merge_into_one():
    times = taken([(0, 2), (3, 5)], [(1, 1.5, 2, 4), (3, 4, 4, 3)])
    merged = times.merged()
    assert merged.entries == 1
    assert merged.seconds.tolist() == [4]
    assert merged.samples.tolist() == [[7]]


def test_time_after_the_making_of_a_graph_is_not_between_steps():
    steps = [(0, 1), (5, 6), (8, 9)]
    rows = [(0, 1, 1, 4), (5, 6, 6, 4), (8, 9, 9, 4)]
    assert taken(steps, rows, left_out={0}).between.tolist() == [0, 0, 2]
    log = StepLog(1)
    log.add_step(0, 1, is_left_out=True)
    log.add_stamps([stamps((0, 1, 1, 4))])
    log.take(is_whole=False)
    log.add_step(5, 6, is_left_out=False)
    log.add_stamps([stamps((5, 6, 6, 4))])
    assert log.take(is_whole=False).between.tolist() == [0]


def test_votes_are_part_of_the_time_between_steps():
    log = StepLog(1)
    for begin, voting in [(0, 0.0), (4, 2.0), (6, 9.0)]:
        log.add_step(begin, begin + 1, is_left_out=False, voting=voting)
    log.add_stamps([stamps(*((b, b + 1, b + 1, 4) for b in (0, 4, 6)))])
    times = log.take(is_whole=True)
    assert times.between.tolist() == [0, 3, 1]
    assert times.voting.tolist() == [0, 2, 1]

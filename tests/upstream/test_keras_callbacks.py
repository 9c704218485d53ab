"""Contracts of `tfdp.upstream.keras.keras_callbacks`."""

import keras
import pytest
from contracts import contract

from tfdp.upstream.keras import keras_callbacks


@contract(
    "_batches_seen_since_last_saving",
    "_last_batch_seen",
    "_total_batches_seen",
    "_global_train_batch",
    "_global_test_batch",
    serves="callbacks begin anew when a training is resumed",
)
@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.EarlyStopping(),
        keras.callbacks.ModelCheckpoint("a.keras"),
        keras.callbacks.ReduceLROnPlateau(),
        keras.callbacks.TensorBoard(),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_every_name_is_an_attribute(callback):
    if isinstance(callback, keras.callbacks.EarlyStopping):
        callback.on_train_begin()
    names = keras_callbacks._REMEMBERED[type(callback).__name__]
    assert set(keras_callbacks.remembered(callback)) == set(names)


def test_a_checkpoint_counts_up_to_where_it_was_and_saves_nothing():
    before = keras.callbacks.ModelCheckpoint("a.keras", save_freq=4)
    due = [before._should_save_on_batch(batch) for batch in range(6)]
    assert due == [False, False, False, True, False, False]
    state = keras_callbacks.remembered(before)
    again = keras.callbacks.ModelCheckpoint("a.keras", save_freq=4)
    keras_callbacks.remember(again, state, batches_before=6)
    assert not any(again._should_save_on_batch(batch) for batch in range(6))
    assert keras_callbacks.remembered(again) == state


def test_what_a_subclass_adds_is_told_from_what_keras_knows():
    class Own(keras.callbacks.EarlyStopping):
        def __init__(self):
            super().__init__()
            self.mine = 1

    own = Own()
    assert keras_callbacks.own_attributes(own) == {"mine": 1}
    assert not keras_callbacks.is_keras_own(own)
    assert keras_callbacks.is_keras_own(keras.callbacks.EarlyStopping())


def test_a_board_counts_on_and_records_no_step_that_it_has_written():
    board = keras.callbacks.TensorBoard(update_freq=2)
    state = {"_global_train_batch": 5, "_global_test_batch": 3}
    keras_callbacks.remember(board, state, batches_before=3, last_step=7)
    recorded = []
    for _ in range(8):
        board._global_train_batch += 1
        if board._global_train_batch % board.update_freq == 0:
            recorded.append(board._global_train_batch)
    assert recorded == [8, 10]
    assert keras_callbacks.remembered(board) == {
        "_global_train_batch": 10,
        "_global_test_batch": 3,
    }

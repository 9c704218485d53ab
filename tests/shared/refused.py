"""Gives the workers of one strategy data that it must refuse."""

import functools

import refusing
import tensorflow as tf

import tfdp

strategy = tfdp.auto_strategy()
refusal = functools.partial(refusing.refusal, refusing.compiled(strategy))


def pairs(count):
    return tf.data.Dataset.from_tensor_slices(
        (tf.zeros((count, 1)), tf.zeros((count, 1)))
    )


off = tf.data.Options()
off.experimental_distribute.auto_shard_policy = (
    tf.data.experimental.AutoShardPolicy.OFF
)
messages = {
    "off": refusal(pairs(8).batch(4).with_options(off)),
    "lengths": refusal(pairs(8 + 8 * strategy.worker_index).batch(4)),
}
tf.random.set_seed(strategy.worker_index)
messages["shuffling"] = refusal(pairs(8).shuffle(8).batch(4))
tf.random.set_seed(5)
messages["sound"] = refusal(pairs(8).shuffle(8).batch(4))
tfdp.testing.report(messages)

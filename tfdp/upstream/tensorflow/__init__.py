"""The doorways to private names of TensorFlow, by what they are about."""

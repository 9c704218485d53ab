"""The doorways to private names of Keras, by what they are about."""

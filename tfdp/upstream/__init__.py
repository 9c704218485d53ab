"""Doorways to private names of Keras and TensorFlow, and what a model holds.

One module for each thing that is looked into; import it by its name. Knows no
other room. Nowhere else in tfdp is a private name of theirs used. Each is
declared by `tfdp.upstream.private`, and looked up when it is used.
"""

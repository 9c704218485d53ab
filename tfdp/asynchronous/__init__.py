"""Training in which no worker waits for another: the engine below `fit`.

A server, a child process of the chief, holds the weights and the optimizer.
Workers send it gradients and receive weights; no gradient is staler than a
bound, and whoever is lost keeps nobody waiting. Knows variables, an optimizer's
configuration, numbers of batches and sockets. Must not know strategies, models,
datasets or callbacks, nor what a gradient was made of.
"""

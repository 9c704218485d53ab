"""The networks of `harness/networks.py` in PyTorch, with the same weights."""

import numpy as np
import torch
from harness.networks import (
    BLOCKS,
    CLASSES,
    HEADS,
    VOCABULARY,
    WIDTH,
    first_weights,
)
from torch import nn


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.hidden, self.last = nn.Linear(9216, 128), nn.Linear(128, CLASSES)

    def forward(self, x):
        x = self.first(x.permute(0, 3, 1, 2)).relu()
        x = nn.functional.max_pool2d(self.second(x).relu(), 2)
        # Keras flattens with the channels last.
        x = self.hidden(x.permute(0, 2, 3, 1).flatten(1)).relu()
        return self.last(x)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True
                )
                for _ in range(BLOCKS)
            )
        )
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.last(self.blocks(self.embedding(x)).mean(1))


def dense():
    layers, width = [], 1024
    for _ in range(3):
        layers += [nn.Linear(width, 2048), nn.ReLU()]
        width = 2048
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


@torch.no_grad()
def set_first_weights(module):
    """Gives a network the weights that Keras's has."""
    for parameter, value in zip(
        module.parameters(), in_order_of_torch(module), strict=True
    ):
        if value is not None:
            parameter.copy_(torch.from_numpy(value))


def in_order_of_torch(module):
    """Yields Keras's weights as PyTorch orders and lays them out."""
    if not isinstance(module, Transformer):
        shapes = [
            (p.shape[2:] + (p.shape[1], p.shape[0]))
            if p.dim() == 4
            else tuple(reversed(p.shape))
            for p in module.parameters()
        ]
        for value in first_weights(shapes):
            yield (
                value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            ).copy()
        return
    split, square = (WIDTH, HEADS, WIDTH // HEADS), (HEADS, WIDTH // HEADS)
    norm = [(WIDTH,)] * 2
    block = [split, square] * 3 + [(*square, WIDTH), (WIDTH,)] + norm
    block += [(WIDTH, 4 * WIDTH), (4 * WIDTH,), (4 * WIDTH, WIDTH), (WIDTH,)]
    block += norm
    shapes = [
        (VOCABULARY, WIDTH),
        *block * BLOCKS,
        (WIDTH, CLASSES),
        (CLASSES,),
    ]
    values = iter(first_weights(shapes))
    yield next(values)
    for _ in range(BLOCKS):
        own = [next(values) for _ in block]
        # Keras: query, key, value, output; norm; up, down; norm.
        kernels = [each.reshape(WIDTH, WIDTH).T for each in own[0:6:2]]
        yield np.concatenate(kernels)
        yield np.concatenate([each.reshape(-1) for each in own[1:6:2]])
        yield own[6].reshape(WIDTH, WIDTH).T.copy()
        yield own[7]
        yield own[10].T.copy()
        yield own[11]
        yield own[12].T.copy()
        yield own[13]
        yield from (None, own[9], None, own[15])
    yield next(values).T.copy()
    yield next(values)


def network_of(name):
    """Builds a network by its name."""
    kinds = {
        "dense": dense,
        "convolutional": Convolutional,
        "transformer": Transformer,
    }
    module = kinds[name]()
    set_first_weights(module)
    return module

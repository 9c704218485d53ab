"""A worker that notes on its board what it is told to, without TensorFlow."""

import sys
import time

from tfdp.board import State, own_board


def main(*orders):
    board = own_board()
    for order in orders:
        kind, _, text = order.partition(":")
        if kind == "print":
            print(text, flush=True)
        elif kind == "sleep":
            time.sleep(float(text))
        elif kind == "fail":
            sys.exit(int(text))
        else:
            given = dict(pair.split("=") for pair in text.split(",") if pair)
            words = given.pop("waits", "")
            numbers = {name: int(value) for name, value in given.items()}
            board.note(State[kind], words, **numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])

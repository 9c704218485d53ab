"""Where each worker stands, in a small file that its launcher reads.

Worker and launcher share the file's memory, and the machine's clock. Must not
know TensorFlow, nor what is written here for.
"""

from tfdp.board.board import Board, own_board
from tfdp.board.board_folder import BoardFolder
from tfdp.board.comeback import Comeback
from tfdp.board.stacks import handles
from tfdp.board.standing import Standing, State

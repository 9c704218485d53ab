"""How fast all-reduces are, how far a training scales, whether it is exact.

Programs that workers run (`probe` and what it starts), and reports made of
their figures, which need no TensorFlow. Knows all of tfdp but its commands.
"""

from tfdp.bench.scaling_report import (
    Measurement,
    Point,
    prediction,
    print_table,
)

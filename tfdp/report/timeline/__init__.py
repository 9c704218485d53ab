"""All workers of a run beside each other, moment by moment.

From what `tfdp.run_log` has written of single steps. Must not know the charts.
"""

from tfdp.report.timeline.trace import write_trace

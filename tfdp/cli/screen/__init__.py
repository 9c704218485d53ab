"""What a person sees of a job while it runs: a table under the lines.

Knows boards and processes. Must not know how workers are started.
"""

from tfdp.cli.screen.live_screen import LiveScreen

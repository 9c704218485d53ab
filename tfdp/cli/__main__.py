"""Makes `python -m tfdp.cli` the same as `tfdp`."""

from tfdp.cli import main

main(prog_name="python -m tfdp.cli")

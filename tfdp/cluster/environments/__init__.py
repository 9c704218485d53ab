"""What schedulers and launchers tell a process about its job, one file each.

Functions of a mapping of variables, such as `os.environ`; nothing here reads
the environment itself.
"""

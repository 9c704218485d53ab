"""What a test of data-parallel training needs, without any accelerator.

Replicas: `logical_cpus` makes several devices out of the host's processor.
Workers: `run_workers` runs a script or a function as several processes, each
of which hands its findings back. pytest has both as fixtures.
"""

import lazy_loader

# Every pytest of an environment with tfdp loads this room, for its plugin.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

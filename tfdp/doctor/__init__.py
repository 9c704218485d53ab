"""Whether training would start here, and if not, why.

Looks at versions, cluster, devices and cores, and starts nothing. TensorFlow is
imported where it is asked, not before.
"""

from tfdp.doctor.checkup import diagnosis
from tfdp.doctor.hardware import quiet
from tfdp.doctor.section import Section

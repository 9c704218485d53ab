"""Workers who know one address of all, and learn each other's there.

Whose rank is 0 listens; the others come, prove that they are of the job, and
tell their own addresses; when all have come each gets the list. Knows nothing
of clusters and of who has told the address.
"""

from tfdp.cluster.roll_call.appointment import Appointment
from tfdp.cluster.roll_call.attendance import attend
from tfdp.cluster.roll_call.roll import Seats

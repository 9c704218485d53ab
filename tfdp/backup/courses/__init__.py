"""The ways of a fit through its data, and how it gets to where it was."""

from tfdp.backup.courses.course import Course, course_of
from tfdp.backup.courses.replay import Replay, is_replaying, replay_of

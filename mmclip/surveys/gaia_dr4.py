"""Gaia DR4: as Gaia DR3, with names that its own archive is asked for until they are confirmed."""

from mmclip.surveys.gaia.archive import survey
from mmclip.surveys.gaia.dr4 import DR4

SURVEY = survey(DR4)

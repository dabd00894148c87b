"""Gaia DR3: catalogue columns over TAP, XP and RVS spectra by DataLink or from the bulk files."""

from mmclip.surveys.gaia.archive import survey
from mmclip.surveys.gaia.dr3 import DR3

SURVEY = survey(DR3)

"""Gaia's archive, whatever the release: queries, ids of earlier releases, spectra, bulk files.

A release is a description (`release.Release`); `mmclip/surveys/gaia_dr3.py` makes it a survey.
"""

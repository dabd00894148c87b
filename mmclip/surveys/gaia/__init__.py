"""Gaia: spectra by DataLink and from the bulk files, columns and their joins."""

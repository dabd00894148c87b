"""mmclip: one embedding space for every view of a star or a galaxy."""

__version__ = "0.2.0.dev0"

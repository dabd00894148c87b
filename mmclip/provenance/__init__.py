"""Where an answer came from, and the same answer made again."""

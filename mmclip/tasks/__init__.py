"""Questions to the embedding space: each a function that returns a table."""

"""Vectors on disk and the indexes over them; NumPy and FAISS only, never torch."""

"""Encoders that agree on one space: model, loss, resumable training, runs on disk."""

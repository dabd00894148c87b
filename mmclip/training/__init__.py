"""Training: batches, checkpoints, optimisers, learning rates, several processes as one."""

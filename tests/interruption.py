"""Trainings that are broken off at a step, with a checkpoint after every step."""

from mmclip.training import loop


def interrupted(monkeypatch, call):
    """Interrupt the `call`-th step that is taken from now on; the names of stages, step by step."""
    real, steps = loop.take_step, []

    def stopped(it, stage, within):
        steps.append(stage.name)
        if len(steps) == call:
            raise KeyboardInterrupt
        value = real(it, stage, within)
        it.saved = -1e9  # a checkpoint after this step
        return value

    monkeypatch.setattr(loop, "take_step", stopped)
    return steps

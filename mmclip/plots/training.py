"""Pictures of a training: loss, learning rate and recall by epoch."""

from mmclip import plots
from mmclip.clip.stages import ALIGN
from mmclip.training.loop import Epoch


def pictures(metrics: list[Epoch]) -> dict[str, bytes]:
    """Loss and recall by epoch, as pictures by file name."""
    aligned = [e for e in metrics if e.stage == ALIGN]
    lines = [e.line() for e in aligned]
    made = {}
    for file, names, label in (
        ("loss.png", {"train_loss": "training", "loss": "validation"}, "loss, nats"),
        ("recall.png", {f"recall@{k}": f"recall@{k}" for k in (1, 5, 10)}, "recall, validation"),
    ):
        whole = {k: shown for k, shown in names.items() if all(k in m for m in lines)}
        if aligned and whole:
            series = {shown: [m[k] for m in lines] for k, shown in whole.items()}
            rate = [e.learning_rate for e in aligned] if file == "loss.png" else ()
            figure = plots.curves_figure([e.epoch for e in aligned], series, label, rate=rate)
            made[file] = plots.png_bytes(figure)
    return made

"""Pictures of a training: loss and recall by epoch."""

from typing import Any

from mmclip import plots


def pictures(metrics: list[dict[str, Any]]) -> dict[str, bytes]:
    """Loss and recall by epoch, as pictures by file name."""
    aligned = [m for m in metrics if m["stage"] == "align"]
    made = {}
    for file, keys, label in (
        ("loss.png", ("train_loss", "loss"), "loss, nats"),
        ("recall.png", ("recall@1", "recall@5", "recall@10"), "recall, validation"),
    ):
        whole = [k for k in keys if aligned and all(k in m for m in aligned)]
        if whole:
            series = {
                {"loss": "validation", "train_loss": "training"}.get(k, k): [m[k] for m in aligned]
                for k in whole
            }
            figure = plots.curves_figure([m["epoch"] for m in aligned], series, label)
            made[file] = plots.png_bytes(figure)
    return made

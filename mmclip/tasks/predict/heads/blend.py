"""Half kernel ridge (the mean of four), half networks: they err in different places."""

from mmclip.tasks.predict.heads import Head

HEAD = Head(
    "blend", "mean of kernel ridge and networks", parts=("kernel-ridge", "mlp-ensemble"), folds=3
)

"""The door to numba, which comes with UMAP: loaded when it is used, under OpenMP's own limit."""

import os


def limit_threads() -> None:
    """Let numba, which is about to be imported, use as many threads as OMP_NUM_THREADS says.

    It would take every core, and through the OpenMP that it shares with PyTorch it would make
    PyTorch do so too from then on.
    """
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if told.isdigit() and int(told):
        os.environ.setdefault("NUMBA_NUM_THREADS", told)

"""Embed spectra with an encoder that `mmclip export --onnx` wrote; needs onnxruntime, not torch.

    python examples/embed_onnx.py encoders/xp.onnx data/xp.npy vectors.npy

The array holds prepared values [objects, entries] in the unit that the file names, NaN where
nothing was observed. The vectors have length 1: their dot product is the cosine similarity.
"""

import json
import sys

import numpy as np
import onnxruntime


def main(encoder: str, values: str, out: str) -> None:
    session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    prepared = np.load(values).astype(np.float32)
    entries = len(json.loads(about["mmclip.centre"]))
    if prepared.ndim != 2 or prepared.shape[1] != entries:
        sys.exit(f"{about['mmclip.view']} has {entries} entries in {about['mmclip.unit']}")
    np.save(out, session.run(["vectors"], {"values": prepared})[0])


if __name__ == "__main__":
    main(*sys.argv[1:])

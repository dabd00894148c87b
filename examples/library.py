"""Ask the newest vectors of a workspace from Python, as `mmclip search` and `mmclip knn` do."""

import sys

import mmclip

workspace = mmclip.open_workspace(sys.argv[1] if len(sys.argv) > 1 else "mmclip-work")
found = workspace.search(k=5, start="metadata", to="xp")
print(found)
print(found.to_table()["source_id", "cosine"])
print(workspace.knn("teff", modality="xp").to_pandas()[["method", "R2", "NMAD"]])

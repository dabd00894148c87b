"""Ask the newest vectors of a workspace from Python: the functions behind the commands."""

import sys
from pathlib import Path

from mmclip.artifacts.workspace import Workspace
from mmclip.tasks.search import recall, search
from mmclip.vectors.store import Store

workspace = Workspace(Path(sys.argv[1] if len(sys.argv) > 1 else "mmclip-work"))
store = Store(workspace.get("vectors"))
star = int(store.source_id[0])
for answer in search(store, [star], start="metadata", to="xp", k=5):
    print(answer["rank"], answer["source_id"], f"{answer['cosine']:.3f}")
for direction in recall(store):
    print(direction["direction"], f"recall@10 = {direction['recall@10']:.3f}")

"""A loopback stand-in of a model hub: what huggingface_hub asks, answered from memory.

Endpoints as the hub documents them (huggingface.co/docs/hub/api): create, preupload, commit (lines
of JSON), repository info, tree, resolve. Every file is a regular one, as small files are there.
"""

import base64
import hashlib
import json
import re
import urllib.parse

from tests.loopback import Server

KIND = r"/api/(models|datasets)/([\w.-]+/[\w.-]+)"


class Hub:
    """Repositories by kind and name: a list of (commit, files), newest last."""

    def __init__(self):
        self.repositories = {}
        self.fault = None  # path -> bytes served in place of a file

    def server(self):
        return Server(routes=[
            (r"/api/repos/create", self.create),
            (r"/api/validate-yaml", self.validate),
            (KIND + r"/preupload/[^/]+", self.preupload),
            (KIND + r"/commit/[^/]+", self.commit),
            (KIND + r"(?:/revision/[^/]+)?", self.info),
            (KIND + r"/tree/[^/]+", self.tree),
            (r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", self.file),
        ])  # fmt: skip

    def create(self, request, body):
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        self.repositories.setdefault((asked.get("type", "model") + "s", name), [])
        return json_answer({"url": f"{request.server.url}/{name}", "name": name, "id": name})

    def validate(self, request, body):
        head = json.loads(body)["content"].split("---")[1]
        missing = [] if "license: " in head else [{"message": "no license"}]
        return json_answer({"errors": missing, "warnings": []})

    def preupload(self, request, body):
        files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                 for f in json.loads(body)["files"]]  # fmt: skip
        return json_answer({"files": files})

    def commit(self, request, body):
        kind, name = self.named(request)
        lines = [json.loads(line) for line in body.splitlines()]
        held = self.repositories[kind, name]
        files = dict(held[-1][1]) if held else {}
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = hashlib.sha1(body).hexdigest()
        held.append((commit, files))
        url = f"{request.server.url}/{name}/commit/{commit}"
        return json_answer({"success": True, "commitOid": commit, "commitUrl": url})

    def named(self, request):
        return re.match(KIND, request.path).groups()

    def find(self, kind, name, revision):
        held = self.repositories.get((kind, name), [])
        if not held:
            return (404, {"X-Error-Code": "RepoNotFound"}, b"{}"), None
        if revision in (None, "main"):
            return None, held[-1]
        found = next((h for h in held if h[0] == revision), None)
        return (
            (None, found) if found else ((404, {"X-Error-Code": "RevisionNotFound"}, b"{}"), None)
        )

    def info(self, request, body):
        kind, name = self.named(request)
        refused, held = self.find(kind, name, self.revision(request, "revision"))
        if refused:
            return refused
        files = [{"rfilename": n} for n in held[1]]
        return json_answer({"_id": "1", "id": name, "sha": held[0], "siblings": files,
                            "private": False, "tags": [], "downloads": 0, "likes": 0})  # fmt: skip

    def revision(self, request, word):
        match = re.search(rf"/{word}/([^/?]+)", request.path)
        return urllib.parse.unquote(match[1]) if match else None

    def tree(self, request, body):
        kind, name = self.named(request)
        refused, held = self.find(kind, name, self.revision(request, "tree"))
        if refused:
            return refused
        return json_answer([
            {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
            for n, b in held[1].items()
        ])  # fmt: skip

    def file(self, request, body):
        split = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
        datasets, name, revision, path = re.match(
            r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", split
        ).groups()
        refused, held = self.find("datasets" if datasets else "models", name, revision)
        if refused:
            return refused
        if path not in held[1]:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = (self.fault or {}).get(path, held[1][path])
        tag = hashlib.sha1(content).hexdigest()
        return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": held[0]}, content


def json_answer(value):
    """200 with a body of JSON."""
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

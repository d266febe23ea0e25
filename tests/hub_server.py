"""A small hub on the loopback address, which speaks what huggingface_hub asks of the real one.

Repositories with branches and commits, large files apart from small ones (LFS), tokens that may
read or write, private and gated repositories, and faults that can be ordered.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

READ, WRITE = "hf_read", "hf_write"
"""The tokens that the hub knows; both read what is private."""


class Repo:
    def __init__(self, private=False, gated=False):
        self.private, self.gated = private, gated
        self.branches = {"main": None}
        self.commits = {None: {}}
        self.messages = []

    def commit(self, branch, changes, message=""):
        """Set files (None removes one) on top of a branch."""
        files = {**self.commits[self.branches[branch]], **changes}
        files = {path: content for path, content in files.items() if content is not None}
        text = repr((sorted(files.items()), len(self.commits)))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        self.messages.append(message)
        return sha

    def find(self, revision):
        """The commit of a branch, or of its own name; None where there is none."""
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None


class HubServer:
    def __init__(self):
        self.repos = {}
        self.large = {}
        self.asked = []
        self.faults = {}
        """(method, part of a path) → a list of statuses to answer first, or "silent"."""
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.store = f"http://localhost:{self.server.server_port}"
        """Of large files, another host, as with the real one."""

    def fault(self, method, path):
        for (of, part), answers in self.faults.items():
            if of == method and part in path and answers:
                return answers if isinstance(answers, str) else answers.pop(0)
        return None


@contextmanager
def running():
    hub = HubServer()
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def __getattr__(self, name):  # do_GET, do_HEAD and so on
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self):
        hub = self.server_hub
        self.hub = hub
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        path = "/" + "/".join(parts)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.asked.append((self.command, path))
        fault = hub.fault(self.command, path)
        if fault == "silent":
            threading.Event().wait(60)  # also where a test makes sleep short
            self.close_connection = True
            return
        if fault is not None:
            return self._refuse(fault, "", "ordered")
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.token and self.token not in (READ, WRITE):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if parts[:2] == ["api", "models"]:
            return self._model("/".join(parts[2:4]), parts[4:])
        if path == "/api/repos/create":
            return self._create(json.loads(self.body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if parts[0] == "lfs":
            return self._lfs(parts[1])
        if len(parts) > 3 and parts[1].endswith(".git"):
            return self._batch(json.loads(self.body))
        if len(parts) > 4 and parts[2] == "resolve":
            return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._refuse(404, "", "no such page")

    def _repo(self, name):
        """The repository, if whoever asks may see it; else the answer is given."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.token):
            self._refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and not self.token:
            self._refuse(401, "GatedRepo", "Access to this model is restricted")
            return None
        return repo

    def _writes(self):
        if self.token != WRITE:
            self._refuse(403 if self.token else 401, "", "You have no right to write")
        return self.token == WRITE

    def _create(self, wanted):
        name = f"{wanted['organization']}/{wanted['name']}"
        if not self._writes():
            return
        if wanted["organization"] == "theirs":
            return self._refuse(403, "", "You don't have the rights to create a model here")
        if name in self.hub.repos:
            return self._refuse(409, "", "You already created this model repo")
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repos[name] = Repo(private=private)
        self.hub.repos[name].commit("main", {".gitattributes": b""}, "initial commit")
        self._json({"url": f"{self.hub.address}/{name}"})

    def _model(self, name, rest):
        repo = self._repo(name)
        if repo is None:
            return
        if not rest or rest[0] == "revision":
            return self._info(name, repo, rest[1] if rest else "main")
        what, revision = rest[0], rest[1]
        if what == "tree":
            return self._tree(repo, revision)
        if not self._writes():
            return
        if what == "branch":
            if revision in repo.branches:
                return self._refuse(409, "", "Reference already exists")
            repo.branches[revision] = repo.branches["main"]
            return self._json({})
        if what == "preupload":
            files = [
                {"path": f["path"], "uploadMode": _mode(f), "shouldIgnore": False}
                for f in json.loads(self.body)["files"]
            ]
            return self._json({"files": files})
        return self._commit(name, repo, revision)

    def _info(self, name, repo, revision):
        sha = repo.find(revision)
        files = [{"rfilename": path} for path in repo.commits.get(sha, {})]
        facts = {"id": name, "sha": sha or 40 * "0", "private": repo.private, "siblings": files}
        self._json({**facts, "tags": [], "downloads": 0, "likes": 0})

    def _tree(self, repo, revision):
        sha = repo.find(revision)
        if sha is None and revision not in repo.branches:
            return self._refuse(404, "RevisionNotFound", "no such revision")
        files = repo.commits[sha]
        self._json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": _sha1(content)}
                for path, content in files.items()
            ]
        )

    def _commit(self, name, repo, revision):
        changes, message = {}, ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                changes[value["path"]] = self.hub.large[value["oid"]]
            elif item["key"] == "deletedFile":
                changes[value["path"]] = None
        if self.query.get("create_pr") == ["1"]:
            revision = f"refs/pr/{len(repo.branches)}"
            repo.branches[revision] = repo.branches["main"]
        if revision not in repo.branches:
            return self._refuse(404, "RevisionNotFound", "no such branch")
        sha = repo.commit(revision, changes, message)
        page = f"{self.hub.address}/{name}"
        answer = {"commitUrl": f"{page}/commit/{sha}", "commitOid": sha}
        if revision.startswith("refs/pr/"):
            answer["pullRequestUrl"] = f"{page}/discussions/1"
        self._json(answer)

    def _batch(self, wanted):
        if not self._writes():
            return
        objects = [
            {
                **each,
                "actions": {"upload": {"href": f"{self.hub.store}/lfs/{each['oid']}"}},
            }
            for each in wanted["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _lfs(self, oid):
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                return self._refuse(400, "", "another file")
            self.hub.large[oid] = self.body
            return self._json({})
        return self._bytes(self.hub.large[oid], {})

    def _resolve(self, name, revision, path):
        repo = self._repo(name)
        if repo is None:
            return
        sha = repo.find(revision)
        if sha is None:
            return self._refuse(404, "RevisionNotFound", "no such revision")
        commit = {"X-Repo-Commit": sha}
        content = repo.commits[sha].get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound", "no such file", commit)
        oid = hashlib.sha256(content).hexdigest()
        if oid in self.hub.large:  # as the real hub sends to where large files are
            linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{oid}"'}
            headers = {**commit, **linked, "Location": f"{self.hub.store}/lfs/{oid}"}
            return self._bytes(b"", headers, status=302)
        return self._bytes(content, {**commit, "ETag": f'"{_sha1(content)}"'})

    def _refuse(self, status, code, message, headers=None):
        coded = {"X-Error-Code": code} if code else {}
        coded["X-Error-Message"] = message
        content = json.dumps({"error": message}).encode()
        self._bytes(content, {**coded, **(headers or {})}, status=status)

    def _json(self, answer):
        self._bytes(json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _bytes(self, content, headers, status=200):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _mode(file):
    return "lfs" if file["path"].endswith((".safetensors", ".png")) else "regular"


def _sha1(content):
    return hashlib.sha1(content).hexdigest()

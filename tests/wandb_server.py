"""A W&B server for tests, on loopback: it speaks enough of the protocol for runs, tables and artifacts, and keeps what it was sent.

It keeps a run's history by line number and merges the manifests of incremental artifacts, as the real server does, so that what was sent
twice shows. It does not check keys. `down` cuts the network: every connection is dropped without an answer; `cut_after` cuts it later.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote


@dataclass
class ServerRun:
    """A run: its history by line number, its files by name, and the artifacts it made or used."""

    name: str
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    group: str | None = None


@dataclass
class ServerArtifact:
    """A version of an artifact: its files by name, those it takes over from `base` included."""

    id: str
    name: str
    kind: str
    run: str
    client_id: str
    aliases: list[str]
    metadata: dict[str, Any]
    digest: str
    version: int = -1
    base: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    committed: bool = False


class WandbServer(ThreadingHTTPServer):
    """Listens from its making until `stop`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, ServerRun] = {}
        self.artifacts: dict[str, ServerArtifact] = {}
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self.keys: set[str] = set()
        self.down = False
        self.cut_after: int | None = None
        self.lock = threading.RLock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """The address to give to W&B."""
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()

    def handle_error(self, *args: object) -> None:
        """A client that hangs up is no fault here."""

    def latest(self, name: str) -> ServerArtifact | None:
        """The newest complete version of an artifact."""
        versions = [each for each in self.artifacts.values() if each.name == name and each.committed]
        return max(versions, key=lambda each: each.version, default=None)

    def table(self, key: str) -> list[dict[str, Any]]:
        """The rows of an incremental table as W&B shows them: all increments of its newest artifact, of all runs. Nothing is taken out."""
        rows = []
        for run in self.runs:
            artifact = self.latest(f"run-{run}-incr-{key}")
            for name in sorted(artifact.files if artifact else (), key=lambda name: int(name.split(".")[0].split("-")[1])):
                table = json.loads(artifact.files[name])  # type: ignore[union-attr]
                rows += [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        return rows

    def steps(self, key: str) -> list[str]:
        """The table files that the history names for a key, in the order of its lines, each of which must have been uploaded."""
        named = [line[key]["path"] for run in self.runs.values() for _, line in sorted(run.history.items()) if key in line]
        assert {*named} <= {name for run in self.runs.values() for name in run.files}, "the history names a file that never came"
        return named

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """What the server says to one GraphQL operation."""
        with self.lock:
            self.asked.append(operation)
            say = getattr(self, "_on_" + re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower(), None)
            if say is None:
                self.unknown.append(operation)
                return {}
            return say(given)

    def _on_server_features_query(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "V", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}}

    def _on_run_resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        bucket = None
        if run is not None:
            tail = [json.dumps(run.history[max(run.history)])] if run.history else []
            counts = {"historyLineCount": len(run.history), "logLineCount": 0, "eventsLineCount": 0}
            texts = {"historyTail": json.dumps(tail), "eventsTail": "[]", "config": "{}", "summaryMetrics": json.dumps(run.summary)}
            bucket = {"id": run.name, "name": run.name, "displayName": run.name, **counts, **texts, "tags": [], "notes": None, "wandbConfig": "{}"}
        return {"model": {"id": "P", "name": given["project"], "entity": {"id": "E", "name": "me"}, "bucket": bucket}}

    def _on_upsert_bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        fresh = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], ServerRun(given["name"]))
        run.group = given.get("groupName") or run.group
        project = {"id": "P", "name": given["project"], "entity": {"id": "E", "name": "me"}}
        names = {"id": run.name, "name": run.name, "displayName": run.name, "description": None, "sweepName": None}
        return {"upsertBucket": {"bucket": {**names, "config": "{}", "project": project, "historyLineCount": len(run.history)}, "inserted": fresh}}

    def _on_create_run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/put/run/{given['run']}/{quote(name)}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _on_artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self._find(given["name"])
        return {"project": {"artifact": {"artifactType": {"name": found.kind}} if found else None}}

    def _on_artifact_membership_by_name(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self._find(given["name"])
        if found is None:
            return {"project": {"artifactCollectionMembership": None}}
        project = {"id": "P", "internalId": "P", "name": given["project"], "entity": {"id": "E", "name": "me"}}
        collection = {"__typename": "ArtifactSequence", "name": found.name, "project": project}
        moment, size = "2026-01-01T00:00:00", sum(map(len, found.files.values()))
        facts = {"description": None, "metadata": json.dumps(found.metadata), "ttlDurationSeconds": 0, "ttlIsInherited": False, "tags": []}
        dates = {"createdAt": moment, "updatedAt": None, "commitHash": None, "historyStep": None, "size": size, "fileCount": len(found.files)}
        names = {"id": found.id, "artifactSequence": collection, "versionIndex": found.version, "artifactType": {"name": found.kind}}
        artifact = {"__typename": "Artifact", **names, **facts, **dates, "state": "COMMITTED", "digest": found.digest, "aliases": []}
        membership = {"id": f"C:{found.id}", "versionIndex": found.version, "createdAt": moment, "aliases": [], "artifactCollection": collection}
        return {"project": {"artifactCollectionMembership": {"__typename": "ArtifactCollectionMembership", **membership, "artifact": artifact}}}

    def _on_create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        asked = given["input"]
        name, latest = asked["artifactCollectionName"], self.latest(asked["artifactCollectionName"])
        known = [each for each in self.artifacts.values() if each.client_id == asked["clientID"] or (each.name == name and each.digest == asked["digest"])]
        aliases = [alias["alias"] for alias in asked["aliases"] or []]
        if known and known[0].committed:  # the same content again is the same version
            artifact = known[0]
            artifact.aliases = list(dict.fromkeys((*artifact.aliases, *aliases)))
        else:
            metadata = json.loads(asked.get("metadata") or "{}")
            artifact = ServerArtifact(
                f"A{len(self.artifacts)}", name, asked["artifactTypeName"], asked["runName"], asked["clientID"], aliases, metadata, asked["digest"]
            )
            self.artifacts[artifact.id] = artifact
        sequence = {"latestArtifact": {"id": latest.id} if latest else None}
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": "COMMITTED" if artifact.committed else "PENDING", "artifactSequence": sequence}}}

    def _on_create_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[given["artifactID"]]
        if given["manifestType"] == "INCREMENTAL":
            latest = self.latest(artifact.name)
            artifact.base = given["baseArtifactID"] or (latest.id if latest else None)
        return {"createArtifactManifest": {"artifactManifest": self._manifest(artifact.id)}}

    def _on_update_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(given["artifactManifestID"].removeprefix("M:"))}}

    def _manifest(self, id: str) -> dict[str, Any]:
        return {"id": f"M:{id}", "file": {"id": f"F:{id}", "uploadUrl": f"{self.url}/put/manifest/{id}/manifest", "uploadHeaders": []}}

    def _on_create_artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in given["input"]["artifactFiles"]:
            url = f"{self.url}/put/artifact/{file['artifactID']}/{quote(file['name'])}"
            node = {"storagePath": file["name"], "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_commit_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[given["artifactID"]]
        if not artifact.committed:
            taken_over = self.artifacts[artifact.base].files if artifact.base else {}
            artifact.files = {**taken_over, **artifact.files}
            artifact.version = sum(each.committed for each in self.artifacts.values() if each.name == artifact.name)
            artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _on_client_i_d_mapping(self, given: dict[str, Any]) -> dict[str, Any]:
        found = [each.id for each in self.artifacts.values() if each.client_id == given["clientID"]]
        return {"clientIDMapping": {"serverID": found[0]} if found else None}

    def _on_use_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.runs[given["runName"]].used.add(given["artifactID"])
        return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}

    def _find(self, name: str) -> ServerArtifact | None:
        """The artifact `name:alias` or `name:v0`."""
        name, _, alias = name.rpartition("/")[2].partition(":")
        if alias == "latest":
            return self.latest(name)
        found = [each for each in self.artifacts.values() if each.name == name and each.committed and alias in (*each.aliases, f"v{each.version}")]
        return found[-1] if found else None

    def stream(self, run: str, sent: dict[str, Any]) -> None:
        """Keep what a file stream brings: lines of history by their number, and the summary."""
        with self.lock:
            kept = self.runs[run]
            for name, chunk in sent.get("files", {}).items():
                if name == "wandb-history.jsonl":
                    kept.history.update({chunk["offset"] + number: json.loads(line) for number, line in enumerate(chunk["content"])})
                elif name == "wandb-summary.json":
                    kept.summary = json.loads(chunk["content"][-1])

    def keep(self, path: str, data: bytes) -> None:
        """Keep an uploaded file."""
        kind, owner, name = (unquote(part) for part in path.removeprefix("/put/").split("/", 2))
        with self.lock:
            if kind == "run":
                self.runs[owner].files[name] = data
            elif kind == "artifact":
                self.artifacts[owner].files[name] = data
            else:
                self.artifacts[owner].manifest = json.loads(data)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._guarded(lambda body: None)

    def do_PUT(self) -> None:
        self._guarded(lambda body: self.server.keep(self.path, body))

    def do_POST(self) -> None:
        def answer(body: bytes) -> object:
            if self.path == "/graphql":
                asked = json.loads(body)
                found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                return {"data": self.server.answer(found[1] if found else "?", asked.get("variables") or {})}
            if self.path.endswith("/file_stream"):
                self.server.stream(self.path.split("/")[4], json.loads(body))
                return {"exitcode": None, "limits": {}}
            return {}

        self._guarded(answer)

    def _guarded(self, work: Any) -> None:
        body = self._body()
        server = self.server
        with server.lock:
            if server.cut_after is not None and not server.down and self.command != "GET":
                server.cut_after -= 1
                server.down = server.cut_after < 0
        if server.down:
            self.close_connection = True
            self.connection.close()
            return
        server.keys.add(self.headers.get("Authorization") or "")
        text = json.dumps(work(body) or {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

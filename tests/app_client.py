"""A browser without a screen: one person's page on the running app, driven through the app's own queue as the page's script does it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx


class AppClient:
    """One person at the app: an identity of their own (the edge's cookie), one page session, and the components with their present values.

    `call("vote_a")` sends what the page would send: the values of the handler's inputs as they are on this page. What comes back
    becomes the page's values, `value("duel-progress")` by elem_id.
    """

    def __init__(self, url: str, *, language: str = "ja", like: AppClient | None = None) -> None:
        """`like` is another page of the same app: what is on it need not be read again, which takes half a second."""
        headers = {"accept-language": language, "origin": url}
        self._http = httpx.Client(base_url=url, timeout=60, headers=headers, follow_redirects=True, verify=False, trust_env=False)
        assert self._http.get("/").status_code == 200
        self._config = config = like._config if like else self._http.get("/config").json()
        self.session = secrets.token_hex(6)
        self._props = {each["id"]: dict(each.get("props", {})) for each in config["components"]}
        self._ids = {props["elem_id"]: number for number, props in self._props.items() if props.get("elem_id")}
        self._calls = {each["api_name"]: each for each in config["dependencies"] if each.get("api_name")}

    def __enter__(self) -> AppClient:
        return self

    def __exit__(self, *problem: object) -> None:
        self._http.close()

    def value(self, elem_id: str) -> Any:
        """What a component holds on this page."""
        return self._props[self._ids[elem_id]].get("value")

    def is_visible(self, elem_id: str) -> bool:
        """Whether a component is shown."""
        return bool(self._props[self._ids[elem_id]].get("visible", True))

    def set(self, elem_id: str, value: Any) -> None:
        """Type or choose something."""
        self._props[self._ids[elem_id]]["value"] = value

    @property
    def user(self) -> str:
        """The id the app gave this person."""
        return next(iter(self._http.cookies.values())).rpartition(".")[0]

    def start(self, api_name: str, *, sent: str | None = None) -> None:
        """Do what fires this handler, without waiting for its end. `sent` is what a script on the page puts into the first input."""
        handler = self._calls[api_name]
        data = [self._props[number].get("value") for number in handler["inputs"]]
        if sent is not None:
            data[0] = sent
        joined = self._http.post("/gradio_api/queue/join", json={"fn_index": handler["id"], "data": data, "session_hash": self.session})
        assert joined.status_code == 200, joined.text

    def call(self, api_name: str, *, sent: str | None = None) -> list[Any]:
        """Do what fires this handler, and wait for its end. Raises AssertionError with the app's sentence where it fails."""
        self.start(api_name, sent=sent)
        output = next(event["output"] for event in self._events() if event["msg"] == "process_completed")
        assert "error" not in output or output.get("data"), output["error"]
        handler = self._calls[api_name]
        for number, value in zip(handler["outputs"], output["data"], strict=True):
            self._take(number, value)
        return list(output["data"])

    def _take(self, number: int, value: Any) -> None:
        if isinstance(value, dict) and value.get("__type__") == "update":
            self._props[number] |= {name: new for name, new in value.items() if name != "__type__"}
        else:
            self._props[number]["value"] = value

    def _events(self) -> Iterator[dict[str, Any]]:
        with self._http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}, timeout=120) as stream:
            assert stream.status_code == 200, stream.status_code
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line[5:])
                    yield event
                    if event["msg"] in ("close_stream", "unexpected_error"):
                        return

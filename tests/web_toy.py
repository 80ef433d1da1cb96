"""A small Gradio app with everything an attacker would want: a hidden handler, a secret in a session, a slow stream, files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx


def build_toy(approved: list[str | None], folder: Path) -> gr.Blocks:
    """The toy. Whoever gets its hidden handlers to run is written into `approved`; files for download go to `folder`."""

    def approve(model: str, request: gr.Request) -> str:
        approved.append(request.username)
        return f"approved {model}"

    def count(steps: float, request: gr.Request) -> Iterator[str]:
        for step in range(int(steps)):
            time.sleep(0.1)
            yield f"{step + 1} for {request.username}"

    def fail(_: str) -> str:
        raise RuntimeError("canary-5a1e in the details")

    def save(text: str) -> str:
        file = folder / f"{abs(hash(text))}.csv"
        file.write_text(text)
        return str(file)

    with gr.Blocks(title="toy") as toy:
        said, answer, steps = gr.Textbox(elem_id="said"), gr.Textbox(elem_id="answer"), gr.Number(30, elem_id="steps")
        kept = gr.State("")
        gr.Button("remember", elem_id="remember").click(lambda text: text, said, kept, api_name="remember")
        gr.Button("recall", elem_id="recall").click(lambda text: f"kept: {text}", kept, answer, api_name="recall")
        gr.Button("count", elem_id="count").click(count, steps, answer, api_name="count")
        gr.Button("fail", elem_id="fail").click(fail, said, answer, api_name="fail")
        gr.Button("hidden", visible=False).click(approve, said, answer, api_name="approve", api_visibility="private")
        gr.Button("unnamed", visible=False).click(approve, said, answer, api_name=False)
        gr.Button("undocumented", visible=False).click(approve, said, answer, api_name="approve_undocumented", api_visibility="undocumented")
        markdown, chat, html = gr.Markdown(elem_id="markdown"), gr.Chatbot(elem_id="chat"), gr.HTML(elem_id="html")
        table = gr.Dataframe(datatype="markdown", headers=["a"], elem_id="table")
        gr.Button("show", elem_id="show").click(
            lambda text: (text, [{"role": "assistant", "content": text}], text, [[text]]), said, [markdown, chat, html, table], api_name="show"
        )
        upload, result = gr.File(elem_id="upload"), gr.File(elem_id="result")
        gr.Button("size", elem_id="size").click(lambda path: Path(path).read_text(), upload, answer, api_name="size")
        gr.Button("save", elem_id="save").click(save, said, result, api_name="save")
        toy.unload(lambda: None)
    return toy


def number_of(toy: gr.Blocks, api_name: str) -> int:
    """The function number of a handler, as the page's own script would name it."""
    return next(number for number, fn in toy.fns.items() if fn.api_name == api_name)


def hidden_numbers(toy: gr.Blocks) -> list[int]:
    """The function numbers of the handlers that are not meant to be called from outside."""
    return [number for number, fn in toy.fns.items() if fn.name == "approve"]


def join(client: httpx.Client, number: int, data: list[Any], session: str, **more: Any) -> httpx.Response:
    """Put a call into the queue, as the page does."""
    return client.post("/gradio_api/queue/join", json={"fn_index": number, "data": data, "session_hash": session, **more})


def events(client: httpx.Client, session: str) -> Iterator[dict[str, Any]]:
    """The events of a page session until it ends."""
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}, timeout=30) as stream:
        assert stream.status_code == 200, stream.status_code
        for line in stream.iter_lines():
            if line.startswith("data:"):
                event = json.loads(line[5:])
                yield event
                if event["msg"] in ("close_stream", "unexpected_error"):
                    return


def result_of(client: httpx.Client, number: int, data: list[Any], session: str) -> dict[str, Any]:
    """The output of a call from join to completion."""
    joined = join(client, number, data, session)
    assert joined.status_code == 200, joined.text
    return next(event for event in events(client, session) if event["msg"] == "process_completed")["output"]

"""Grids on a real endpoint and a real local model: every cell once, in order, through errors, stops, kills and resumes."""

from __future__ import annotations

import io
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from llmops_kit.errors import InvalidValue, UnknownName, UnreadableFile, WorkspaceError
from llmops_kit.kit import Kit, open_kit
from llmops_kit.playground.cells import Plan, plan_rows
from llmops_kit.playground.grid import grid_table, run_grid, stream_grid
from llmops_kit.playground.rows import read_rows
from llmops_kit.types import Grid, Message, Prompt, Run, Variable
from tests.tiny_model import build_tiny_model

SAY = Prompt("say", (Message("user", "{{text}}"),), (Variable("text"),))
ASK = Prompt("ask", (Message("system", "短く"), Message("user", "質問：{{text}}")), (Variable("text"),))


class Endpoint(ThreadingHTTPServer):
    """An OpenAI-compatible server that repeats the last message, character by character.

    Text with 落 in it is answered with status 500 while `down`; 遅 makes each character take `pause_s`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.down = True
        self.pause_s = 0.05

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answer(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        self.server.asked.append(body)
        self.server.keys.append(self.headers["Authorization"])
        if "落" in text and self.server.down:
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for sign in text:
                self._send({"choices": [{"index": 0, "delta": {"role": "assistant", "content": sign}, "finish_reason": None}]})
                time.sleep(self.server.pause_s if "遅" in text else 0)
            self._send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            self._send({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(text), "total_tokens": 3 + len(text)}})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            pass  # the caller went away

    def _send(self, fields: dict) -> None:
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "echo", **fields}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def kit(workspace: Path, endpoint: Endpoint) -> Iterator[Kit]:
    with open_kit(workspace) as opened:
        opened.models.add("echo", provider="openai", model="echo", base_url=endpoint.url)
        yield opened


def grid(kit: Kit, **options):
    return run_grid(kit.playground, kit.store, **{"prompts": SAY, "models": "echo", "progress": False, **options})


def resume(kit: Kit, frame: pd.DataFrame, **options):
    return run_grid(kit.playground, kit.store, resume=frame.attrs["grid_id"], progress=False, **options)


def rows_of(*texts: str) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def test_every_combination_is_a_row_and_the_store_alone_gives_the_same_table(kit, endpoint, tmp_path):
    kit.models.add("tiny", provider="huggingface", model=str(build_tiny_model(tmp_path / "tiny")))
    frame = grid(
        kit,
        prompts=[SAY, ASK],
        models=["echo", "tiny"],
        rows=rows_of("春", "有給休暇"),
        params=[{"temperature": 0.0, "max_tokens": 6}, {"temperature": 0.5, "max_tokens": 6}],
        repeats=2,
    )
    assert len(frame) == 2 * 2 * 2 * 2 * 2
    assert frame["error"].isna().all(), frame["error"].dropna().tolist()
    assert list(frame.columns) == [
        *("grid_id", "run_id", "row", "repeat", "prompt_name", "prompt_version", "model", "text", "temperature"),
        *("output", "schema_ok", "finish_reason", "input_tokens", "output_tokens", "ttft_s", "latency_s", "cost", "error"),
    ]
    assert frame["row"].tolist() == [0] * 16 + [1] * 16
    assert frame["run_id"].is_unique
    echoed = frame[frame["model"] == "echo"]
    assert echoed[echoed["prompt_name"] == "ask"]["output"].tolist() == ["質問：春"] * 4 + ["質問：有給休暇"] * 4
    tiny = frame[frame["model"] == "tiny"]
    assert tiny["output"].str.len().gt(0).all()
    assert (tiny["latency_s"] >= tiny["ttft_s"]).all()
    assert frame.attrs == {"grid_id": frame["grid_id"][0], "total": 32, "missing": 0}
    assert_frame_equal(grid_table(kit.store, frame.attrs["grid_id"]), frame)
    [stored] = kit.store.find(Grid)
    assert stored.id == frame.attrs["grid_id"]
    assert {item.kind for item in kit.store.unsent()} == {"run", "grid"}
    assert kit.store.unsent()[0].record_id == stored.id
    assert kit.store.count(Run, app=f"grid:{stored.id.replace('-', '')}") == 32


def test_a_failed_cell_is_a_row_and_a_resume_runs_only_what_is_missing(kit, endpoint):
    frame = grid(kit, rows=rows_of("春", "落ちる", "", "夏"))
    assert frame["output"].tolist()[0::3] == ["春", "夏"]
    assert frame["error"].isna().tolist() == [True, False, False, True]
    assert "text" in frame["error"][2]
    assert frame.attrs["missing"] == 2

    endpoint.down = False
    endpoint.asked.clear()
    again = resume(kit, frame)
    assert [body["messages"][-1]["content"] for body in endpoint.asked] == ["落ちる"]
    assert again["output"].tolist() == ["春", "落ちる", "", "夏"]
    assert again["error"].isna().tolist() == [True, True, False, True]
    assert again["run_id"].tolist()[0::3] == frame["run_id"].tolist()[0::3]
    assert again["run_id"][1] != frame["run_id"][1]

    endpoint.asked.clear()
    before = kit.store.count(Run)
    third = resume(kit, frame)
    assert endpoint.asked == []
    assert len(third) == 4
    assert kit.store.count(Run) == before + 1  # the empty text fails anew; nothing else is called


def test_cancel_keeps_what_is_done_and_stops_what_runs(kit, endpoint):
    cancel = threading.Event()
    steps: list[tuple[int, int, float | None]] = []

    def progress(done: int, total: int, seconds_left: float | None) -> None:
        steps.append((done, total, seconds_left))
        if done == 2:
            cancel.set()

    texts = ["春", "夏", *(f"遅い{n}" + "あ" * 200 for n in range(6))]
    started = time.monotonic()
    frame = grid(kit, rows=rows_of(*texts), progress=progress, cancel=cancel, workers=3)
    assert time.monotonic() - started < 8, "a call of ten seconds was waited for"
    assert frame["output"].tolist() == ["春", "夏"]
    assert steps[0] == (0, 8, None)
    assert [done for done, _, _ in steps] == [0, 1, 2]
    assert all(left is not None and left > 0 for _, _, left in steps[1:])
    stopped = kit.store.find(Run, finish_reason="cancelled")
    assert 1 <= len(stopped) <= 3
    assert frame.attrs["missing"] == 6

    endpoint.pause_s = 0.0
    asked_before = len(endpoint.asked)
    rest = resume(kit, frame, workers=6)
    assert len(endpoint.asked) == asked_before + 6
    assert rest["output"].tolist() == texts
    assert rest["run_id"].tolist()[:2] == frame["run_id"].tolist()


def test_closing_the_stream_stops_the_grid(kit, endpoint):
    with closing(stream_grid(kit.playground, kit.store, prompts=SAY, models="echo", rows=rows_of(*["遅" * 100] * 8), workers=2)) as steps:
        first = next(steps)
        assert (first.done, first.failed, first.total, first.seconds_left) == (0, 0, 8, None)
    time.sleep(0.3)
    asked = len(endpoint.asked)
    time.sleep(0.5)
    assert len(endpoint.asked) == asked <= 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("grid")]


def test_an_interrupt_names_the_grid_to_resume(kit):
    def interrupt(done: int, total: int, seconds_left: float | None) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        grid(kit, rows=rows_of("春", "夏", "秋"), progress=interrupt)
    [stored] = kit.store.find(Grid)
    assert stored.id in stop.value.__notes__[0]
    assert run_grid(kit.playground, kit.store, resume=stored.id, progress=False)["output"].tolist() == ["春", "夏", "秋"]


KILLED = """
import sys
from llmops_kit.kit import open_kit
from llmops_kit.playground.grid import run_grid
from llmops_kit.types import Message, Prompt
kit = open_kit(sys.argv[1])
rows = [{"text": f"遅い{n}"} for n in range(40)]
run_grid(kit.playground, kit.store, prompts=Prompt("say", (Message("user", "{{text}}"),)), models="echo", rows=rows, workers=4,
         progress=lambda done, total, left: print(done, flush=True))
"""


def test_a_killed_grid_resumes_without_doubles(kit, workspace, endpoint):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(workspace)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 8:
                break
        child.send_signal(signal.SIGKILL)
    [stored] = kit.store.find(Grid)
    kept = grid_table(kit.store, stored.id)
    assert 8 <= len(kept) < 40
    endpoint.pause_s = 0.0
    asked = len(endpoint.asked)
    frame = run_grid(kit.playground, kit.store, resume=stored.id, progress=False)
    assert len(endpoint.asked) - asked == 40 - len(kept)
    assert frame["output"].tolist() == [f"遅い{n}" for n in range(40)]
    assert kit.store.count(Run) == 40
    assert set(kept["run_id"]) <= set(frame["run_id"])


def test_a_seed_grows_with_the_repeat(kit, endpoint):
    seeded = Prompt("seeded", SAY.messages, SAY.variables, params={"seed": 7})
    grid(kit, prompts=seeded, rows=rows_of("春"), repeats=3)
    assert sorted(body["seed"] for body in endpoint.asked) == [7, 8, 9]
    endpoint.asked.clear()
    frame = grid(kit, rows=rows_of("春"), params=[{"seed": 1}, {"seed": 50}], repeats=2)
    assert sorted(body["seed"] for body in endpoint.asked) == [1, 2, 50, 51]
    assert frame["seed"].tolist() == [1, 50, 1, 50]
    endpoint.asked.clear()
    grid(kit, rows=rows_of("春"), repeats=2)
    assert all("seed" not in body for body in endpoint.asked)


def test_keys_are_used_and_kept_nowhere(kit, workspace, endpoint):
    key = "canary-key-" + "x" * 20
    grid(kit, rows=rows_of("春"), api_keys={"echo": key})
    assert endpoint.keys == [f"Bearer {key}"]
    kit.store.close()
    for file in workspace.rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes(), file


def test_rows_come_from_tables_files_and_frames(kit, endpoint, tmp_path):
    path = tmp_path / "質問.csv"
    path.write_bytes("text,正解\n春,１\n夏,２\n".encode("cp932"))
    expected = ["春", "夏"]
    for rows in (path, str(path), read_rows(path), read_rows(path).frame()):
        frame = grid(kit, rows=rows)
        assert frame["output"].tolist() == expected
        assert frame["正解"].tolist() == ["１", "２"]
    assert kit.store.find(Run, limit=1)[0].variables == {"text": "夏"} or kit.store.find(Run, limit=1)[0].variables == {"text": "春"}
    with pytest.raises(UnreadableFile):
        grid(kit, rows=tmp_path / "none.csv")
    with pytest.raises(InvalidValue, match="春"):
        grid(kit, rows=["春"])
    with pytest.raises(InvalidValue, match="0 cells"):
        grid(kit, rows=[])


def test_values_of_a_data_frame_become_plain_and_missing_ones_are_left_out():
    moment = pd.Timestamp("2026-04-01T09:30")
    frame = pd.DataFrame({"n": np.array([1, 2]), "x": [0.5, np.nan], "s": ["a", None], "t": [moment, pd.NaT], "i": pd.array([1, None], dtype="Int64")})
    rows = plan_rows(frame)
    assert rows == ({"n": 1, "x": 0.5, "s": "a", "t": "2026-04-01T09:30:00", "i": 1}, {"n": 2})
    assert json.loads(json.dumps(rows)) == list(rows)
    defaulted = Prompt("greet", (Message("user", "{{who}}"),), (Variable("who", default="皆さん"),))
    assert Plan((defaulted,), (None,), rows=plan_rows(pd.DataFrame({"who": [np.nan]}))).rows == ({},)


def test_names_that_clash_get_a_prefix(kit):
    prompt = Prompt("clash", (Message("user", "{{output}} {{temperature}}"),))
    frame = grid(kit, prompts=prompt, rows=[{"output": "春", "temperature": "低い"}], params=[{"temperature": 0.1}, {"temperature": 0.2, "max_tokens": 50}])
    assert frame["output"].tolist() == ["春 低い"] * 2
    assert frame["var_output"].tolist() == ["春"] * 2
    assert frame["temperature"].tolist() == ["低い"] * 2
    assert frame["param_temperature"].tolist() == [0.1, 0.2]
    assert frame["max_tokens"].tolist()[1] == 50


def test_a_schema_is_checked_cell_by_cell(kit):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    strict = Prompt("json", SAY.messages, SAY.variables, schema=schema)
    frame = grid(kit, prompts=[strict, SAY], rows=rows_of('{"n": 1}', '```json\n{"n": "一"}\n```', "無し"))
    assert frame[frame["prompt_name"] == "json"]["schema_ok"].tolist() == [True, False, False]
    assert frame[frame["prompt_name"] == "say"]["schema_ok"].isna().all()
    with pytest.raises(InvalidValue, match="schema"):
        grid(kit, prompts=Prompt("bad", SAY.messages, schema={"type": "objekt"}), rows=rows_of("春"))


def test_a_chat_with_blanks_is_a_template_and_one_without_is_sent_as_it_is(kit, endpoint):
    assert grid(kit, prompts=[{"role": "user", "content": "やあ、{{name}}さん"}], rows=[{"name": "花子"}])["output"].tolist() == ["やあ、花子さん"]
    assert grid(kit, prompts=[[Message("user", "{こんにちは}")], SAY], rows=rows_of("春"))["output"].tolist() == ["{こんにちは}", "春"]


def test_a_saved_prompt_stays_the_version_it_was_started_with(kit, endpoint):
    kit.prompts.save(SAY, message="初版")
    frame = grid(kit, prompts="say", rows=rows_of("落ちる"))
    assert frame["prompt_version"].tolist() == [1]
    kit.prompts.save(Prompt("say", (Message("user", "新しい{{text}}"),), SAY.variables), message="第二版")
    endpoint.down = False
    again = resume(kit, frame, prompts="say", models="echo", rows=rows_of("落ちる"), repeats=1)
    assert again["output"].tolist() == ["落ちる"]
    assert again["prompt_version"].tolist() == [1]


def test_what_cannot_be_a_grid_is_said_before_anything_is_stored(kit):
    for wrong, said in (
        ({"prompts": "無いプロンプト"}, "無いプロンプト"),
        ({"params": {"api_key": "x"}}, "api_key"),
        ({"params": [{"temperature": 0}, {"temprature": 1}]}, "temprature"),
        ({"repeats": 0}, "repeats"),
        ({"repeats": 200_000}, "200,000 cells"),
        ({"workers": 0}, "workers"),
        ({"prompts": None}, "prompts"),
        ({"prompts": [3]}, "3"),
        ({"resume": "00000000-0000-7000-8000-000000000000", "prompts": None, "models": None}, "grid"),
    ):
        with pytest.raises((UnknownName, InvalidValue), match=said):
            grid(kit, **{"rows": rows_of("春"), **wrong})
    assert kit.store.count(Run) == kit.store.count(Grid) == 0


def test_an_unknown_model_is_an_error_in_its_cells_only(kit):
    frame = grid(kit, models=["echo", "無いモデル"], rows=rows_of("春"))
    assert frame["error"].isna().tolist() == [True, False]
    assert "無いモデル" in frame["error"][1]


def test_a_resume_that_asks_for_another_grid_is_refused(kit):
    frame = grid(kit, rows=rows_of("春"))
    for other in ({"rows": rows_of("夏")}, {"models": "starter-lm"}, {"params": {"temperature": 1}}, {"repeats": 2}, {"prompts": ASK}):
        with pytest.raises(InvalidValue, match=next(iter(other))):
            resume(kit, frame, **other)


def test_a_store_that_fails_stops_the_grid_at_once(kit, workspace, endpoint):
    def break_store(done: int, total: int, seconds_left: float | None) -> None:
        if done == 1:
            with closing(sqlite3.connect(workspace / "kit.sqlite")) as connection:
                connection.execute("DROP TABLE runs")

    with pytest.raises(WorkspaceError):
        grid(kit, rows=rows_of(*["遅い"] * 40), progress=break_store, workers=2)
    assert len(endpoint.asked) < 12


def test_cells_run_at_once(kit, endpoint):
    started = time.monotonic()
    frame = grid(kit, rows=rows_of(*[f"遅い{n:02d}" + "あ" * 16 for n in range(8)]), workers=8)
    assert frame["latency_s"].sum() > 2 * (time.monotonic() - started)


def test_a_bar_is_drawn_only_where_it_is_wanted(kit, capfd):
    grid(kit, rows=rows_of("春"), progress=False)
    assert capfd.readouterr().err == ""


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_with_the_time_left(kit, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    grid(kit, rows=rows_of("春", "夏"), progress=None)
    assert "2/2" in terminal.getvalue()
    assert "run" in terminal.getvalue()

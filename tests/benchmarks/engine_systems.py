"""The systems the engine is measured against, each in processes of its own on this machine, started and stopped here.

A peer that is not part of the project is named by an environment variable and skipped without it:
`FASTCHAT_PYTHON` (a Python with fschat[model_worker] and transformers < 5), `XLLAMACPP_PYTHON` (a Python with xllamacpp),
`LLAMA_SERVER` (llama.cpp's server) and, for both of these, `LLAMA_CONVERT` (llama.cpp's convert_hf_to_gguf.py with its gguf-py beside it).
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.benchmarks.engine_folders import LONGEST, Prompt, copy_for_transformers_4
from tests.benchmarks.engine_worker import run_together

START_S = 240
GRACE_S = 60
ROOT = Path(__file__).parents[2]
XLLAMACPP = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_parallel, params.n_ctx, params.port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
params.hostnames, params.cpuparams.n_threads, params.cpuparams_batch.n_threads = ["127.0.0.1"], int(sys.argv[5]), int(sys.argv[5])
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)
sys.stdin.read()
"""


class Skipped(Exception):
    """The system cannot be measured here, and why."""


@dataclass
class Load:
    """What one load gave: seconds from the common start, tokens and errors of its streams, and memory in MB."""

    wall_s: float
    first_s: list[float]
    tokens: int
    errors: list[str]
    late: bool
    added_mb: float = 0.0
    peak_mb: float = 0.0
    others: float = 0.0
    """How many cores other work on the machine used meanwhile."""


@dataclass(frozen=True)
class Setting:
    """What every system of one model is started with."""

    folder: Path
    scratch: Path
    dtype: str
    tokens: int
    most_streams: int
    threads: int
    limits: dict[str, float]
    """Of our own engine, where they are not its defaults."""


@dataclass
class System:
    """A started system: its process, and how to put a load on it."""

    setting: Setting
    process: subprocess.Popen[str] | None = None
    loaded_mb: float = 0.0
    lines: queue.Queue[str] = field(default_factory=queue.Queue)
    log: Path | None = None

    name = ""
    scales = True
    """Whether many streams at once can be faster than one after the other; then a load may be tried that one-by-one would take too long."""

    def start(self) -> str:
        """Start it and wait until it has loaded the model. What there is to say about it.

        Raises:
            Skipped: it is not there, or does not start.
        """
        raise NotImplementedError

    def answer(self, prompts: Sequence[Prompt], tokens: int, cap_s: float) -> Load:
        """All prompts at the same moment."""
        raise NotImplementedError

    def measure(self, prompts: Sequence[Prompt], cap_s: float) -> Load:
        """The load, with the memory it took."""
        family = [psutil.Process(), psutil.Process(self._pid), *psutil.Process(self._pid).children(recursive=True)]
        busy_s, own_s, started = _read_busy(), _read_own(family), time.perf_counter()
        with MemoryWatch(self._pid) as memory:
            load = self.answer(prompts, self.setting.tokens, cap_s)
        load.others = max(0.0, (_read_busy() - busy_s - _read_own(family) + own_s) / (time.perf_counter() - started))
        load.added_mb, load.peak_mb = memory.anonymous_mb - self.loaded_mb, memory.resident_mb
        return load

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Note the memory of the loaded model, then put one small load on it that is not measured."""
        with MemoryWatch(self._pid) as memory:
            pass
        self.loaded_mb = memory.anonymous_mb
        warm = self.answer(prompts[:2], 8, START_S)
        if warm.errors or not warm.tokens:
            raise Skipped(f"it does not answer: {'; '.join(warm.errors) or 'no tokens'}")

    def stop(self) -> None:
        """End the process and its children; quietly where it has ended."""
        if self.process is None:
            return
        try:
            family = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        except psutil.NoSuchProcess:
            family = []
        for process in family:
            _quietly(process.terminate)
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            _quietly(process.kill)
        self.process.wait(timeout=10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    @property
    def _pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _launch(self, command: Sequence[str | Path], **environment: str) -> None:
        home = self.setting.scratch / "hf_home"
        (home / "hub").mkdir(parents=True, exist_ok=True)
        self.log = self.setting.scratch / f"{self.name.replace(' ', '_').replace('/', '_')}.log"
        variables = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "HF_TOKEN"} and not name.lower().endswith("_proxy")}
        variables |= {
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(home),
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(self.setting.threads),
        } | environment
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=variables, cwd=self.setting.scratch
            )
        threading.Thread(target=_copy_lines, args=(self.process.stdout, self.lines), daemon=True).start()

    def _why(self) -> str:
        said = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] if self.log else []
        return said[-1][:200] if said else "it said nothing"


class Worker(System):
    """A model in a Python process of this project."""

    what = ""

    def start(self) -> str:
        """Start the process and wait for its word."""
        self._launch(
            [sys.executable, "-m", "tests.benchmarks.engine_worker", self.what, self.setting.folder, self.setting.dtype, json.dumps(self.setting.limits)],
            PYTHONPATH=str(ROOT),
        )
        ready = self._read(START_S)
        return f"{ready['threads']} torch threads" + (f", engine {ready['engine']}" if ready["engine"] else "")

    def answer(self, prompts: Sequence[Prompt], tokens: int, cap_s: float) -> Load:
        """One line to the process, one line back."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(json.dumps({"prompts": [prompt.ids for prompt in prompts], "tokens": tokens, "cap_s": cap_s}) + "\n")
        self.process.stdin.flush()
        said = self._read(cap_s + GRACE_S)
        first_s = [at for at in said["first_s"] if at is not None]
        return Load(said["wall_s"], first_s, sum(said["tokens"]), said["errors"], late=said["wall_s"] >= cap_s)

    def _read(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                return dict(json.loads(self.lines.get(timeout=0.5)))
            except queue.Empty:
                if self.process is not None and self.process.poll() is not None:
                    raise Skipped(f"its process ended: {self._why()}") from None
        raise Skipped(f"no word from it within {timeout_s:.0f} s")


class Ours(Worker):
    """llmops_kit's engine, each stream read by a thread of its own."""

    name, what = "ours", "ours"


class Generate(Worker):
    """transformers' generate, one request after another."""

    name, what, scales = "generate, one by one", "generate", False


class Threads(Worker):
    """A thread per request, each in generate on the shared model."""

    name, what = "generate, thread each", "threads"


class Served(System):
    """A system that answers over HTTP on a free port of the loopback."""

    port = 0
    client: httpx.Client

    def start(self) -> str:
        """Start the server and wait until it is healthy."""
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        said = self._serve()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, limits=limits, timeout=START_S)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise Skipped(f"its process ended: {self._why()}")
            try:
                if self._is_healthy():
                    return said
            except httpx.HTTPError:
                pass
            time.sleep(0.25)
        raise Skipped(f"not healthy within {START_S} s: {self._why()}")

    def answer(self, prompts: Sequence[Prompt], tokens: int, cap_s: float) -> Load:
        """A client thread per prompt."""
        first: list[float | None] = [None] * len(prompts)
        counts = [0] * len(prompts)
        errors: list[str] = []
        deadline = time.perf_counter() + cap_s
        late = threading.Event()

        def read(number: int) -> None:
            try:
                with closing(self._stream(prompts[number], tokens, cap_s)) as pieces:
                    for count in pieces:
                        if count and first[number] is None:
                            first[number] = time.perf_counter()
                        counts[number] = max(counts[number], count)
                        if time.perf_counter() > deadline:
                            late.set()
                            return
            except httpx.TimeoutException:
                late.set()
            except Exception as error:  # noqa: BLE001 - any failure of one stream is a result
                errors.append(f"{type(error).__name__}: {error}"[:200])

        started = run_together(len(prompts), read)
        wall_s = time.perf_counter() - started
        return Load(wall_s, [max(0.0, at - started) for at in first if at is not None], sum(counts), errors, late=late.is_set())

    def stop(self) -> None:
        """Close the connections, then end the server."""
        if hasattr(self, "client"):
            self.client.close()
        super().stop()

    def _serve(self) -> str:
        raise NotImplementedError

    def _is_healthy(self) -> bool:
        return self.client.get("/health").is_success

    def _stream(self, prompt: Prompt, tokens: int, timeout_s: float) -> Generator[int]:
        """How many tokens there are so far, at each piece that shows some."""
        raise NotImplementedError

    def _events(self, path: str, body: dict[str, Any], timeout_s: float) -> Iterator[dict[str, Any]]:
        with self.client.stream("POST", path, json=body, timeout=timeout_s) as response:
            if not response.is_success:
                raise RuntimeError(f"{response.status_code} {response.read().decode(errors='replace')[:150]}")
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    if event.get("error"):
                        raise RuntimeError(str(event["error"])[:150])
                    yield event


class TransformersServe(Served):
    """`transformers serve`, which answers one request at a time."""

    name, scales = "transformers serve", False
    flags: tuple[str, ...] = ()

    def _serve(self) -> str:
        program = Path(sys.executable).with_name("transformers")
        flags = ["--device", "cpu", "--dtype", self.setting.dtype, "--host", "127.0.0.1", "--port", str(self.port), *self._more()]
        self._launch([program, "serve", self.setting.folder, *flags])
        return " ".join(self._more()) or "defaults"

    def _more(self) -> list[str]:
        return []

    def _stream(self, prompt: Prompt, tokens: int, timeout_s: float) -> Generator[int]:
        body = {"model": str(self.setting.folder), "messages": [{"role": "user", "content": prompt.user}]}
        count = 0
        for event in self._events("/v1/chat/completions", body | {"stream": True, "max_tokens": tokens, "temperature": 0}, timeout_s):
            if any(choice["delta"].get("content") for choice in event.get("choices", ())):
                count += 1
                yield count
            if event.get("usage"):
                yield event["usage"]["completion_tokens"]


class TransformersBatching(TransformersServe):
    """`transformers serve --continuous-batching`, its cache large enough for all streams."""

    name, scales = "transformers serve, batching", True

    def _more(self) -> list[str]:
        blocks = self.setting.most_streams * -(-(LONGEST + self.setting.tokens) // 32) + 16
        return ["--continuous-batching", "--cb-block-size", "32", "--cb-num-blocks", str(blocks), "--cb-max-batch-tokens", "256"]


class LlamaServer(Served):
    """llama.cpp's own server, built from source; one slot per stream, attention cache in its default float16."""

    name = "llama.cpp server"

    def _serve(self) -> str:
        program = _find("LLAMA_SERVER")
        slots = self.setting.most_streams
        flags: list[str | Path] = [
            "-m",
            self._convert(),
            "-np",
            str(slots),
            "-c",
            str(slots * 256),
            "-t",
            str(self.setting.threads),
            "-tb",
            str(self.setting.threads),
        ]
        self._launch([program, *flags, "--host", "127.0.0.1", "--port", str(self.port)])
        return f"{slots} slots of 256 tokens, {self.setting.threads} threads"

    def _convert(self) -> Path:
        """The folder as GGUF in the same number format."""
        script = _find("LLAMA_CONVERT")
        file = self.setting.scratch / "model.gguf"
        if file.is_file():
            return file
        kind = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[self.setting.dtype]
        environment = os.environ | {"PYTHONPATH": str(script.parent / "gguf-py"), "HF_HUB_OFFLINE": "1"}
        command: list[str] = [sys.executable, str(script), str(self.setting.folder), "--outtype", kind, "--outfile", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=START_S, check=False)
        if done.returncode:
            raise Skipped(f"the conversion to GGUF failed: {(done.stderr.strip().splitlines() or ['no word'])[-1][:200]}")
        return file

    def _stream(self, prompt: Prompt, tokens: int, timeout_s: float) -> Generator[int]:
        body = {"prompt": list(prompt.ids), "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": True}
        count = 0
        for event in self._events("/completion", body, timeout_s):
            if event.get("content"):
                count += 1
                yield count
            if "tokens_predicted" in event:
                yield event["tokens_predicted"]


class Xllamacpp(LlamaServer):
    """llama.cpp's server inside the wheel xllamacpp, which is compiled without the newest instructions."""

    name = "llama.cpp (xllamacpp)"

    def _serve(self) -> str:
        python = _find("XLLAMACPP_PYTHON")
        slots = self.setting.most_streams
        self._launch([python, "-c", XLLAMACPP, self._convert(), str(slots), str(slots * 256), str(self.port), str(self.setting.threads)])
        return f"{slots} slots of 256 tokens, {self.setting.threads} threads"


class FastChat(Served):
    """FastChat's model worker: a loop per request on the shared model, in a server thread each."""

    name = "FastChat worker"

    def _serve(self) -> str:
        python = _find("FASTCHAT_PYTHON")
        folder = self.setting.scratch / "transformers_4"
        if not folder.is_dir():
            copy_for_transformers_4(self.setting.folder, folder)
        address = f"http://127.0.0.1:{self.port}"
        flags = ["--host", "127.0.0.1", "--port", str(self.port), "--worker-address", address, "--no-register", "--device", "cpu"]
        more = ["--dtype", self.setting.dtype, "--stream-interval", "1", "--limit-worker-concurrency", str(self.setting.most_streams)]
        self._launch(
            [python, "-m", "fastchat.serve.model_worker", "--model-path", folder, "--model-names", "bench", *flags, *more], LOGDIR=str(self.setting.scratch)
        )
        return "stream interval 1"

    def _is_healthy(self) -> bool:
        return self.client.post("/worker_get_status").is_success

    def _stream(self, prompt: Prompt, tokens: int, timeout_s: float) -> Generator[int]:
        body = {"model": "bench", "prompt": prompt.rendered, "temperature": 0, "max_new_tokens": tokens, "echo": False}
        with self.client.stream("POST", "/worker_generate_stream", json=body, timeout=timeout_s) as response:
            rest = ""
            for text in response.iter_text():
                *events, rest = (rest + text).split("\0")
                for raw in events:
                    event = json.loads(raw)
                    if event["error_code"]:
                        raise RuntimeError(str(event["text"])[:150])
                    if event["text"]:
                        yield event["usage"]["completion_tokens"] + 1  # it counts from 0


SYSTEMS: dict[str, type[System]] = {
    "ours": Ours,
    "generate": Generate,
    "threads": Threads,
    "serve": TransformersServe,
    "serve-cb": TransformersBatching,
    "llama-server": LlamaServer,
    "xllamacpp": Xllamacpp,
    "fastchat": FastChat,
}


class MemoryWatch:
    """The most memory a process and its children had, sampled every 50 ms.

    `anonymous_mb` leaves out mapped files: some systems map the weights and read them in only when a request comes.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.anonymous_mb = self.resident_mb = 0.0

    def __enter__(self) -> MemoryWatch:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._sample()

    def _sample(self) -> None:
        anonymous = resident = 0
        try:
            root = psutil.Process(self._pid)
            for process in (root, *root.children(recursive=True)):
                memory = process.memory_info()
                resident += memory.rss
                anonymous += memory.rss - getattr(memory, "shared", 0)
        except psutil.Error:
            return
        self.anonymous_mb, self.resident_mb = max(self.anonymous_mb, anonymous / 1e6), max(self.resident_mb, resident / 1e6)


def make_scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for models, logs and caches; removed when left."""
    return tempfile.TemporaryDirectory(prefix="engine_load_", ignore_cleanup_errors=True)


def wait_for_quiet(most_s: float, cores: float) -> None:
    """Wait until the whole machine used fewer than so many cores over two seconds, but not for ever. Nothing of ours may be computing."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        busy_s, started = _read_busy(), time.perf_counter()
        time.sleep(2.0)
        if (_read_busy() - busy_s) / (time.perf_counter() - started) < cores:
            return


def _read_busy() -> float:
    """Seconds of all cores spent on anything so far, on other guests of the same hardware too (steal)."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


def _read_own(family: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in family:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _find(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise Skipped(f"no {variable} given, and nothing is downloaded")
    if not Path(value).is_file():
        raise Skipped(f"{variable} names no file: {value}")
    return Path(value).absolute()  # not resolved: the python of a virtual environment is a link


def _copy_lines(source: Any, lines: queue.Queue[str]) -> None:
    try:
        for line in source:
            lines.put(line)
    except ValueError:
        pass


def _quietly(call: Any) -> None:
    with suppress(psutil.NoSuchProcess):
        call()

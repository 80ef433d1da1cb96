"""A model server that misbehaves on request: the first part of the path says how. It keeps what it was sent."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-test-0123456789abcdef"


def event(text=None, *, finish=None, usage=None, **extra):
    choices = [] if usage else [{"index": 0, "delta": {"content": text} if text is not None else {}, "finish_reason": finish}]
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "remote-1", "system_fingerprint": "fp_7", "choices": choices, **extra}
    return b"data: " + json.dumps({**chunk, "usage": usage}, ensure_ascii=False).encode() + b"\n\n"


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
GOOD = [event("こん"), event("にちは"), event("。", finish="stop"), event(usage=USAGE), b"data: [DONE]\n\n"]


class FaultyServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = []
        self.headers = []
        self.hung_up = threading.Event()
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, fault):
        return f"http://127.0.0.1:{self.server_port}/{fault}/v1"

    def stop(self):
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.close_connection = True
        try:
            getattr(self, "do_" + self.path.split("/")[1])()
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()

    def begin(self, kind="text/event-stream", status=200, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def fail(self, status, message, **headers):
        body = json.dumps({"error": {"message": message, "type": "x", "code": status}}).encode()
        self.begin("application/json", status, Content_Length=str(len(body)), **headers)
        self.wfile.write(body)

    def say(self, *parts):
        self.begin()
        for part in parts:
            self.wfile.write(part)
            self.wfile.flush()

    def do_good(self):
        self.say(*GOOD)

    def do_no_usage(self):
        self.say(event("a", finish="stop"), b"data: [DONE]\n\n")

    def do_long(self):
        self.say(event("a" * 5, finish="length"), b"data: [DONE]\n\n")

    def do_deaf(self):
        """Does not know stop texts."""
        self.say(event("abc EN"), event("D def"), event("g"), event(finish="stop"), event(usage=USAGE))

    def do_endless(self):
        self.begin()
        while not self.server.released.wait(0.02):
            self.wfile.write(event("x"))
            self.wfile.flush()

    def do_stall(self):
        self.server.released.wait(30)

    def do_stall_after_one(self):
        self.say(event("x"))
        self.server.released.wait(30)

    def drip(self, data, pause_s=0.2):
        for number in range(len(data)):
            self.wfile.write(data[number : number + 1])
            self.wfile.flush()
            time.sleep(pause_s)

    def do_drip_headers(self):
        self.drip(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Padding: " + b"x" * 1000)

    def do_drip_body(self):
        self.begin()
        self.drip(event("x" * 1000))

    def do_keepalives(self):
        self.begin()
        for _ in range(100):
            self.wfile.write(b": still there\n\n")
            self.wfile.flush()
            time.sleep(0.1)

    def do_cut(self):
        self.say(event("half "), event("an answ"))

    def do_cut_in_chunk(self):
        self.begin(Transfer_Encoding="chunked")
        data = event("half")
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) + b"40\r\ndata: {")
        self.wfile.flush()

    def do_broken_json(self):
        self.say(event("ok"), b'data: {"choices": [{"delta": {"con\n\n')

    def do_wrong_shape(self):
        self.say(event("ok"), b'data: {"choices": [{"index": 0, "delta": 7}]}\n\n')

    def do_bare_list(self):
        self.say(b"data: [1, 2, 3]\n\n")

    def do_deep_json(self):
        self.say(b"data: " + b"[" * 100_000 + b"\n\n")

    def do_not_utf8(self):
        self.say(event("ok"), b"data: \xff\xfe\x80\n\n")

    def do_error_inside(self):
        self.say(event("ok"), b'data: {"error": {"message": "CUDA out of memory"}}\n\n')

    def do_empty(self):
        self.say()

    def do_only_done(self):
        self.say(b"data: [DONE]\n\n")

    def do_html(self):
        self.begin("text/html; charset=utf-8")
        self.wfile.write(b"<html><body>Welcome to nginx</body></html>")

    def do_plain_json(self):
        self.begin("application/json")
        self.wfile.write(json.dumps({"choices": [{"message": {"role": "assistant", "content": "hi"}}]}).encode())

    def do_huge_event(self):
        self.begin()
        self.wfile.write(b"data: ")
        while True:
            self.wfile.write(b"x" * 65536)

    def do_huge_error(self):
        self.begin("text/plain", 500)
        while True:
            self.wfile.write(b"x" * 65536)

    def do_401(self):
        self.fail(401, f"Incorrect API key provided: {self.headers['Authorization']}")

    def do_403(self):
        self.fail(403, "no")

    def do_404(self):
        self.fail(404, "The model `remote` does not exist")

    def do_400(self):
        self.fail(400, f"bad thing sent with {self.headers['Authorization']}")

    def do_422(self):
        self.fail(422, "temperature must be a number")

    def do_429(self):
        self.fail(429, "quota used up")

    def do_429_later(self):
        self.fail(429, "slow down", Retry_After="40")

    def do_500(self):
        self.fail(500, "kernel panic")

    def do_once_503(self):
        if len(self.server.bodies) == 1:
            self.fail(503, "warming up", Retry_After="0.1")
        else:
            self.do_good()

    def do_redirect(self):
        self.begin("text/html", 307, Location="http://127.0.0.1:1/elsewhere", Content_Length="0")

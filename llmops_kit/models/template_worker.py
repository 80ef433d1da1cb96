"""Renders one chat template for one or many conversations and ends: the program that `chat_template.render_apart` starts, imported by nothing.

A template is a small program that comes with a model. jinja2's sandbox keeps it from the machine, but not from looping
for ever or filling the memory; so it runs in a process that may be killed. The environment is the one transformers
gives templates: block trimming, `tojson`, `raise_exception`, `strftime_now`, loop controls and the `generation` tag.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

LARGEST_TEXT_CHARS = 20_000_000


def render(call: dict[str, Any]) -> list[dict[str, str]]:
    """For each of the call's rows `{"text": …}`, or `{"error": …}` where the template refuses, fails or writes too much."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the model's own words for training; here its body is all that counts."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=refuse, strftime_now=lambda form: datetime.now().strftime(form))
    try:
        template = environment.from_string(call["template"])
    except Exception as error:  # noqa: BLE001 - a stranger's program: whatever it raises is the answer
        return [_describe(error)] * len(call["rows"])
    return [_fill(template, values) for values in call["rows"]]


def _fill(template: Any, values: dict[str, Any]) -> dict[str, str]:
    try:
        text = template.render(**values)
    except Exception as error:  # noqa: BLE001 - as above
        return _describe(error)
    return {"text": text} if len(text) <= LARGEST_TEXT_CHARS else {"error": f"it wrote {len(text):,} characters"}


def _describe(error: Exception) -> dict[str, str]:
    return {"error": f"{type(error).__name__}: {error}"[:500]}


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _limit_memory(limit_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit; the time limit holds there, too
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def main() -> None:
    """Read a call from stdin (`template`, `rows`: the values of each, `memory_bytes`), write the answers to stdout. The arguments are places of jinja2."""
    sys.path.extend(sys.argv[1:])
    call = json.loads(sys.stdin.buffer.read())
    _limit_memory(call["memory_bytes"])
    sys.stdout.buffer.write(json.dumps(render(call)).encode())


if __name__ == "__main__":
    main()

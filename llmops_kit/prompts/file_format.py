r"""A prompt as a plain-text file: YAML between `---` lines, then the messages.

    ---
    name: summarize
    variables:
    - name: text
    ---

    # user
    次の文章を3文以内で要約してください。

    {{text}}

A line that is exactly `# system`, `# user` or `# assistant` starts a message. Blank lines around a message do not
count. Two things are written with a backslash in front, which reading takes away again: a line of a message that looks
like such a heading (`\# user`), and a blank line that does belong to the beginning or end of a message (`\`).
A file without head and headings is one user message.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, cast

from llmops_kit.errors import InvalidValue
from llmops_kit.prompts.front_matter import read_fields, unreadable, write_fields
from llmops_kit.prompts.template import complete
from llmops_kit.types import Message, Prompt, Role

_HEADING = re.compile(r"# (system|user|assistant)[ \t\r]*")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))})
_MAX_NAME_CHARS = 80
_MAX_NAME_BYTES = 200
"""With `.md` and the name of a temporary file, 255 bytes fit into one folder entry everywhere."""
_MAX_FILE_BYTES = 16 * 1024 * 1024


def check_name(name: str) -> str:
    """`name` in its one spelling (NFC), fit to be a file name on every system. Raises `InvalidValue`."""
    name = unicodedata.normalize("NFC", name).strip()
    stem = name.split(".")[0].rstrip().upper()
    fits = 0 < len(name) <= _MAX_NAME_CHARS and len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
    if not fits or _UNSAFE.search(name) or name[0] == "." or name[-1] == "." or stem in _DEVICES or not name.isprintable():
        raise _bad_name(name[:_MAX_NAME_CHARS])
    return name


def parse(text: str, *, file: str = "prompt") -> Prompt:
    """Read the text of a prompt file. `file` is named in errors, and its stem names the prompt where the text does not.

    The result's `text` is what was read, without a byte-order mark and with the line ends of a Windows file unified.

    Raises:
        UnreadableFile: the text is not a prompt file.
        InvalidValue: its name cannot be used.
    """
    text = _unify(text)
    head, body = _split_head(text, file)
    fields: dict[str, Any] = read_fields(head, file)
    messages = _read_messages(body, file)
    fields["name"] = check_name(fields["name"] or PurePath(file).stem)
    return complete(Prompt(messages=messages, text=text, **fields))


def format(prompt: Prompt) -> str:
    """`prompt` as the text of a prompt file; `parse` gives it back, whatever its messages hold."""
    turns = [f"# {turn.role}\n{_escape(turn.content)}" for turn in prompt.messages]
    return f"---\n{write_fields(complete(prompt))}---\n\n" + "\n\n".join(turns) + "\n"


def content_of(prompt: Prompt) -> Prompt:
    """What a version is about: `prompt` without version, labels, history and the exact spelling of its file."""
    return replace(complete(prompt), version=0, labels=(), message="", author="", created_at=None, text="")


def read(path: Path) -> Prompt:
    """Read a prompt file (UTF-8 with or without byte-order mark, else cp932). Raises what `parse` raises."""
    try:
        size_bytes = path.stat().st_size
        data = path.read_bytes() if size_bytes <= _MAX_FILE_BYTES else b""
    except OSError as fault:
        raise unreadable(path.name, str(fault.strerror or fault), str(fault.strerror or fault)) from fault
    if size_bytes > _MAX_FILE_BYTES:
        sizes = {"size": f"{size_bytes:,}", "most": f"{_MAX_FILE_BYTES:,}"}
        raise unreadable(path.name, "it has {size} bytes, more than {most}".format(**sizes), "{size}バイトあり、上限の{most}を超えています".format(**sizes))
    return parse(decode(data, file=path.name), file=path.name)


def decode(data: bytes, *, file: str) -> str:
    """Bytes → text: UTF-8 (a byte-order mark is dropped), else cp932. Raises `UnreadableFile`."""
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Python's cp932 takes the bytes 80, A0, FD, FE and FF, which no such file has (UTF-16 starts with two of them).
        if not re.search("[\x00\x80\uf8f0-\uf8f3]" if encoding == "cp932" else "\x00", text):
            return text
    raise unreadable(file, "it is neither UTF-8 nor cp932 (Shift_JIS) text", "UTF-8でもcp932（Shift_JIS）でもない文字コードです")


def _bad_name(shown: str) -> InvalidValue:
    return InvalidValue(
        name="name",
        value=shown,
        en=f"“{shown}” does not work as a prompt name. Use up to {_MAX_NAME_CHARS} letters, digits, spaces, _ or -, Japanese included; no path.",
        ja=f"「{shown}」はプロンプト名に使えません。{_MAX_NAME_CHARS}文字以内の文字、数字、空白、_、-で付けてください（日本語も使えます。パスは使えません）。",
    )


def _unify(text: str) -> str:
    text = text.removeprefix("\ufeff")
    first_line, newline, _ = text.partition("\n")
    # A Windows editor ends every line with CRLF. Elsewhere a CR belongs to a message and stays.
    return text.replace("\r\n", "\n") if newline and first_line.endswith("\r") else text


def _split_head(text: str, file: str) -> tuple[str, str]:
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return "", text
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    raise unreadable(file, "its head is not closed by a line ---", "先頭部分を閉じる---の行がありません")


def _read_messages(body: str, file: str) -> tuple[Message, ...]:
    roles: list[Role] = []
    blocks: list[list[str]] = [[]]
    for line in body.split("\n"):
        if heading := _HEADING.fullmatch(line):
            roles.append(cast("Role", heading[1]))
            blocks.append([])
        else:
            blocks[-1].append(line)
    before = _unescape(blocks[0])
    if roles and before:
        raise unreadable(file, f"text stands before the first # user line: “{before[:40]}”", f"最初の# user行より前に文があります：「{before[:40]}」")
    if not roles and not before:
        raise unreadable(file, "it has no message; write one under a line # user", "メッセージがありません。# userの行の下に書いてください")
    return tuple(Message(role, _unescape(block)) for role, block in zip(roles, blocks[1:], strict=True)) or (Message("user", before),)


def _is_blank(line: str) -> bool:
    return not line.strip()


def _needs_escape(line: str) -> bool:
    rest = line.lstrip("\\")
    return _HEADING.fullmatch(rest) is not None or (rest != line and _is_blank(rest))


def _escape(content: str) -> str:
    lines = content.split("\n")
    edges = (0, len(lines) - 1) if content else ()
    return "\n".join("\\" + line if _needs_escape(line) or (at in edges and _is_blank(line)) else line for at, line in enumerate(lines))


def _unescape(lines: list[str]) -> str:
    kept = [at for at, line in enumerate(lines) if not _is_blank(line)]
    inside = lines[kept[0] : kept[-1] + 1] if kept else []
    return "\n".join(line[1:] if line.startswith("\\") and _needs_escape(line) else line for line in inside)

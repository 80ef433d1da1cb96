"""ZIP files, pictures, and files that are not what their name says."""

from __future__ import annotations

import io
import subprocess
import tempfile
import zipfile
from pathlib import Path

from tests.files import passages
from tests.files.large_files import archive
from tests.files.pdf_files import BEES, PASSWORD, one_page, show
from tests.files.plain_files import OFFICE, STOCK

# The start of a Windows program: the DOS stub with its sentence, and nothing that runs.
PROGRAM = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00\xb8" + bytes(47) + b"This program cannot be run in DOS mode.\r\r\n$" + bytes(300)


def windows_archive() -> bytes:
    """A ZIP as Windows packs it in Japan: the member's name in cp932, with no flag that says so. 表 ends in the byte of a backslash."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("PLACEHOLDER-01.txt", plain_member())
    name = "連絡表／総務課.txt".encode("cp932")
    return out.getvalue().replace(b"PLACEHOLDER-01.txt", name.ljust(18, b"_")[:18])


def plain_member() -> bytes:
    """A short member."""
    return "総務課の緊急連絡先は当直室です。\r\n".encode("cp932")


def linked_archive() -> bytes:
    """A ZIP with a member that is a symbolic link to a file of the machine."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        link = zipfile.ZipInfo("passwords.txt")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        target.writestr(link, "/etc/passwd")
        target.writestr("notes.txt", "The lift is serviced on the first Tuesday of May.\n")
    return out.getvalue()


def locked_archive() -> bytes:
    """A ZIP whose member needs a password, made by Info-ZIP."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "secret.txt").write_text("The safe opens with a green key.\n")
        subprocess.run(["zip", "-q", "-P", PASSWORD, "a.zip", "secret.txt"], cwd=folder, check=True)
        return (Path(folder) / "a.zip").read_bytes()


def picture() -> bytes:
    """A PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).save(out, "PNG")
    return out.getvalue()


def make() -> dict[str, bytes]:
    """File name → content."""
    page, sheet = passages.html(passages.MINUTES).encode(), one_page(show(BEES))
    mixed = {
        "規程/育児.txt": passages.plain(passages.CHILDCARE).encode(),
        "規程/": b"",
        "支店.csv": OFFICE.encode("cp932"),
        "bees.pdf": sheet,
        "photo.png": picture(),
        "__MACOSX/._bees.pdf": b"\0\5\x16\7" + bytes(60),
        ".DS_Store": bytes(50),
        "setup.exe": PROGRAM,
    }
    return {
        "zip-mixed.zip": archive(mixed),
        "zip-cp932-names.zip": windows_archive(),
        "zip-traversal.zip": archive({"../../outside.txt": b"outside", "/etc/absolute.txt": b"absolute", "inside.txt": "窓の鍵は二重にかけます。\n".encode()}),
        "zip-symlink.zip": linked_archive(),
        "zip-nested.zip": archive({"inner.zip": archive({"deep.txt": b"A letter inside."}), "outer.txt": b"The ferry leaves at noon.\n"}),
        "zip-encrypted.zip": locked_archive(),
        "zip-truncated.zip": archive({"one.txt": STOCK.encode()})[:-40],
        "zip-empty.zip": archive({}),
        "png-picture.png": picture(),
        "exe-named.pdf": PROGRAM,
        "exe-program.exe": PROGRAM,
        "text-named.pdf": passages.plain(passages.CURRY).encode(),
        "html-named.pdf": page,
        "pdf-named.txt": sheet,
        "zip-named.docx": archive({"notes.txt": b"Not a Word file."}),
        "html-named.csv": page,
        "no-suffix": passages.plain(passages.ORCHARD).encode(),
        **{f"name-{index}.txt": f"{passages.GARDEN_HINT}水やりの当番表は第{index}班の棚にあります。\n".encode() for index in range(1, 8)},
    }

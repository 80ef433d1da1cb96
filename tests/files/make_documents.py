"""Make the files in tests/files/documents and the sample PDF, with the programs named in documents.yaml.

Run `python -m tests.files.make_documents [NAME …]` where LibreOffice, Chromium, Tesseract, Info-ZIP, qpdf and the BIZ UD fonts are installed
(Debian: libreoffice-writer libreoffice-calc libreoffice-impress chromium tesseract-ocr zip qpdf fonts-morisawa-bizud-gothic fonts-morisawa-bizud-mincho).
The tests do not run it: its output is kept. Without names it makes all files anew. Files too large to keep are in large_files.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.files import archive_files, office_files, pdf_files, plain_files, printed_files

HERE = Path(__file__).parent
SAMPLE = "加湿器の取扱説明書"


def main(names: list[str]) -> None:
    """Write the named files, or all of them."""
    made: dict[str, bytes] = {}
    for module in (plain_files, archive_files, pdf_files, office_files, printed_files):
        made.update(module.make())
    folder = HERE / "documents"
    folder.mkdir(exist_ok=True)
    for name, body in made.items():
        if not names or name in names:
            (folder / name).write_bytes(body)
    if not names or SAMPLE in names:
        sample = HERE.parent.parent / "llmops_kit" / "documents" / "samples" / f"{SAMPLE}.pdf"
        sample.write_bytes(printed_files.print_page((HERE / "sources" / f"{SAMPLE}.html").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])

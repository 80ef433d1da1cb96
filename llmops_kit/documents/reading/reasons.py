"""Every sentence about how reading a file ended, in English and Japanese: refusals, questions, warnings. Blanks are filled from facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

Texts = Mapping[str, str]


def _both(en: str, ja: str) -> Texts:
    return MappingProxyType({"en": en, "ja": ja})


REASONS: Final[Mapping[str, Texts]] = MappingProxyType(
    {
        # What the file is.
        "empty": _both("The file is empty (0 bytes). Choose another file.", "ファイルが空です（0バイト）。別のファイルを選んでください。"),
        "no_text": _both(
            "The file has no text to read. If it holds pictures of text, read it with text recognition (OCR).",
            "読み取れる文字がありません。文字の画像の場合は、文字認識（OCR）を使って読み込んでください。",
        ),
        "garbled": _both(
            "The file does not say which letters its shapes stand for, so its text cannot be read. Read it with text recognition (OCR).",
            "文字の情報がないため、文章を読み取れません。文字認識（OCR）を使って読み込んでください。",
        ),
        "no_pages": _both("The file has no pages. Check it in the program that made it.", "ページが1枚もありません。作成したソフトで確かめてください。"),
        "broken": _both(
            "The file is damaged: it cannot be read as {kind}. Save it again in the program that made it.",
            "ファイルが壊れています（{kind}として読めません）。作成したソフトで保存し直してください。",
        ),
        "unknown_format": _both(
            "This kind of file ({suffix}) cannot be read. Allowed: {allowed}.", "この種類のファイル（{suffix}）は読めません。使える種類：{allowed}。"
        ),
        "mismatch": _both(
            "The name ends in {suffix}, but the content is {found}. Check where the file comes from and give it its right name.",
            "名前は{suffix}ですが、中身は{found}です。入手元を確かめ、正しい名前にしてください。",
        ),
        "program": _both("The file is a program ({found}), not a document. It was not opened.", "文書ではなくプログラム（{found}）です。開きませんでした。"),
        "old_format": _both(
            "{suffix} is an old format that is not read here. Save it as {better} and add it again.",
            "{suffix}は古い形式のため読めません。{better}で保存し直してから追加してください。",
        ),
        "protected": _both(
            "The file is protected in a way that is not supported ({detail}). Save a copy without protection.",
            "対応していない方法で保護されています（{detail}）。保護を外したコピーを保存してください。",
        ),
        "unsafe_xml": _both(
            "The file declares XML entities, which can be an attack. It was not read. Save it again in an office program.",
            "攻撃に使われるXMLの実体宣言があるため読みませんでした。オフィスソフトで保存し直してください。",
        ),
        "wrong_encoding": _both(
            "The text is not in the character code {encoding}. Choose another one, for example {suggestion}.",
            "文字コード{encoding}では読めません。別の文字コードを選んでください（例：{suggestion}）。",
        ),
        "unknown_encoding": _both(
            "There is no character code “{encoding}”. Allowed: {allowed}.", "文字コード「{encoding}」はありません。使えるもの：{allowed}。"
        ),
        "unknown_reader": _both(
            "There is no reader “{reader}” for {kind}. Allowed: {allowed}.", "{kind}用の読み取り方法「{reader}」はありません。使えるもの：{allowed}。"
        ),
        "missing_package": _both(
            "Reading this needs the Python package {package}. Install it: {command}.",
            "読み込むにはPythonパッケージ{package}が必要です。{command}で入れてください。",
        ),
        "ocr_missing": _both(
            "Text recognition (OCR) needs the program tesseract. Install it: apt install tesseract-ocr tesseract-ocr-jpn.",
            "文字認識（OCR）にはプログラムtesseractが必要です。apt install tesseract-ocr tesseract-ocr-jpnで入れてください。",
        ),
        "ocr_language": _both(
            "Text recognition (OCR) lacks the language data {missing}. Install it: apt install {command}.",
            "文字認識（OCR）の言語データ{missing}がありません。apt install {command}で入れてください。",
        ),
        # Archives.
        "archive_members": _both(
            "The archive holds {found} files. Allowed: up to {allowed}.", "アーカイブに{found}個のファイルがあります。上限は{allowed}個です。"
        ),
        "archive_ratio": _both(
            "The archive unpacks to {found} times its size, which can be an attack. Allowed: up to {allowed} times.",
            "展開すると{found}倍になり、攻撃の可能性があります。上限は{allowed}倍です。",
        ),
        "archive_size": _both("The archive unpacks to {found} MB. Allowed: up to {allowed} MB.", "展開後の大きさが{found} MBです。上限は{allowed} MBです。"),
        "archive_nested": _both(
            "The archive holds archives inside archives. Unpack it yourself and add the files.",
            "アーカイブが入れ子です。展開してからファイルを追加してください。",
        ),
        # Limits of the guarded process.
        "too_large": _both(
            "The file has {found} MB. Allowed: up to {allowed} MB. Split it.", "ファイルは{found} MBです。上限は{allowed} MBです。分割してください。"
        ),
        "too_many_pages": _both(
            "The file has {found} pages. Allowed: up to {allowed}. Split it.", "{found}ページあります。上限は{allowed}ページです。分割してください。"
        ),
        "too_much_text": _both(
            "The file gives more than {allowed} characters of text. Split it.", "文字数が上限の{allowed}文字を超えました。分割してください。"
        ),
        "too_many_pixels": _both("The picture has {found} pixels. Allowed: up to {allowed}.", "画像は{found}画素です。上限は{allowed}画素です。"),
        "time": _both(
            "Reading was stopped after {allowed} seconds. The file is damaged, an attack, or too large: save it again or split it.",
            "{allowed}秒たっても終わらないため、読み込みを止めました。保存し直すか、分割してください。",
        ),
        "processor": _both(
            "Reading was stopped after {allowed} seconds of computing. The file is damaged, an attack, or too large: save it again or split it.",
            "計算時間が{allowed}秒を超えたため、読み込みを止めました。保存し直すか、分割してください。",
        ),
        "memory": _both(
            "Reading was stopped: it needs more than {allowed} MB of memory. Save the file again or split it.",
            "メモリーが上限の{allowed} MBを超えたため、読み込みを止めました。保存し直すか、分割してください。",
        ),
        "output": _both(
            "Reading was stopped: it writes more than {allowed} MB. Split the file.",
            "出力が上限の{allowed} MBを超えたため、読み込みを止めました。分割してください。",
        ),
        "crash": _both(
            "The reading program crashed on this file ({detail}). Save it again in the program that made it.",
            "このファイルの読み込み中に読み取りプログラムが異常終了しました（{detail}）。作成したソフトで保存し直してください。",
        ),
        "unavailable": _both(
            "The reading process could not be started ({detail}). Try again.",
            "読み取り用のプロセスを起動できませんでした（{detail}）。もう一度お試しください。",
        ),
        "missing_file": _both("The file is not there any more. Add it again.", "ファイルが見つかりません。もう一度追加してください。"),
        "no_such_page": _both("There is no page {page}. The file has {found}.", "{page}ページはありません。全部で{found}ページです。"),
    }
)

QUESTIONS: Final[Mapping[str, Texts]] = MappingProxyType(
    {
        "password": _both("The file is encrypted. Enter its password.", "ファイルは暗号化されています。パスワードを入力してください。"),
        "wrong_password": _both("The password does not open the file. Enter it again.", "パスワードが違います。もう一度入力してください。"),
        "encoding": _both(
            "The character code of the text is not certain. Choose one: {candidates}.", "文字コードを判定できません。選んでください：{candidates}。"
        ),
    }
)

WARNINGS: Final[Mapping[str, Texts]] = MappingProxyType(
    {
        "empty_pages": _both("Some pages have no text.", "文字のないページがあります。"),
        "cid": _both("Some characters could not be read: “(cid:…)” stands in their place.", "読めない文字があり、「(cid:…)」になっています。"),
        "replacement": _both("Some characters could not be read: they appear as � or as an empty box.", "読めない文字があり、「�」や空の四角になっています。"),
        "scanned": _both(
            "Some pages look scanned. Read them with text recognition (OCR).", "スキャン画像らしいページがあります。文字認識（OCR）を使って読み込めます。"
        ),
        "vertical": _both("Some pages are written vertically. Check that the lines are in order.", "縦書きのページがあります。行の順序を確かめてください。"),
        "repeated": _both("The same line (header or footer) stands on many pages.", "多くのページに同じ行（ヘッダーやフッター）があります。"),
        "hidden_text": _both(
            "The file holds text that cannot be seen (or the text layer of a scan). Check what it says before you trust it.",
            "目に見えない文字（またはスキャンの文字層）があります。信頼する前に内容を確かめてください。",
        ),
        "truncated": _both("The file was too long: only its beginning was read.", "長すぎるため、はじめの部分だけを読み込みました。"),
        "pages_lost": _both("Some pages are damaged and were left out.", "壊れていて読めないページがあります。"),
        "mixed_encoding": _both("The text mixes several character codes.", "複数の文字コードが混ざっています。"),
        "guessed_encoding": _both(
            "The character code was guessed. Check that the text is right.", "文字コードを推定しました。文字が正しいか確かめてください。"
        ),
        "rows_cut": _both("The table was too long: only its first rows were read.", "表が長すぎるため、はじめの行だけを読み込みました。"),
        "renamed": _both(
            "The name of the file does not fit its content. It was read as what it is.", "ファイル名と中身の種類が違います。中身に合わせて読み込みました。"
        ),
        "members_skipped": _both("Some files in the archive were not read.", "アーカイブの中に読み込まなかったファイルがあります。"),
        "formulas": _both("Some cells hold formulas without stored values.", "値が保存されていない数式のセルがあります。"),
        "tracked_changes": _both("The file holds tracked changes. Deleted text was left out.", "変更履歴があります。削除された文字は除きました。"),
        "macros": _both("The file holds macros. They were not run.", "マクロが含まれています。実行はしていません。"),
        "attachments": _both("The file holds attachments. They were not read.", "添付ファイルがあります。読み込んでいません。"),
        "ocr": _both("Text of some pages was recognised from pictures (OCR). Check it.", "一部のページの文字は画像から認識（OCR）しました。確かめてください。"),
        "old_names": _both("Names in the archive were read as {encoding}.", "アーカイブ内の名前は{encoding}として読みました。"),
    }
)


def reason(key: str, facts: Mapping[str, object] | None = None) -> dict[str, str]:
    """The sentence of a refusal or a question in both languages. A blank without a fact reads "?". An unknown key gets the sentence of "crash"."""
    known = facts or {}
    texts = REASONS.get(key) or QUESTIONS.get(key)
    if texts is None:
        texts, known = REASONS["crash"], {"detail": key}
    return {language: _filled(text, known, language) for language, text in texts.items()}


def _filled(text: str, facts: Mapping[str, object], language: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda blank: _said(facts.get(blank[1], "?"), language), text)


def _said(value: object, language: str) -> str:
    if isinstance(value, Mapping):
        value = value.get(language, "?")
    if isinstance(value, (list, tuple)):
        return ("、" if language == "ja" else ", ").join(str(each) for each in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)

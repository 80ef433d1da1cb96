"""Tokenizers: three ways to load one, and the self-test every local model passes before it answers.

`AutoTokenizer` of transformers 5 rebuilds a sentencepiece tokenizer of the old `T5Tokenizer` layout (rinna) without its
byte fallback and with an extra leading space: most ids are then wrong and nothing says so. So each entry names its
loader, and the loaded tokenizer is compared with golden ids, or with `sentencepiece` itself where the model ships its
file, or else has to give every test text back unharmed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import ModelRefused
from llmops_kit.models.catalogue import ModelEntry

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import PreTrainedTokenizerBase

TEST_TEXTS = (
    "ユーザー: こんにちは<NL>システム: ",
    "有給休暇は年20日です。\n次の行です。",
    "半角 の空白と  2つの空白",
    " 先頭と末尾の空白 ",
    "絵文字😀と𠮷野家、髙島屋",
    "ＡＢＣ１２３ ｶﾀｶﾅ",
    "English words, 123.45 and <tags> {\"a\": [1]}",
    "\n",
    "<NL>",
)
"""What the self-test encodes: line breaks, the <NL> mark, spaces at all places, rare characters, both widths."""

SPACE = "▁"
_SENTENCEPIECE_FILES = ("spiece.model", "tokenizer.model", "sentencepiece.model")


@dataclass(frozen=True)
class TokenDifference:
    """One text the tokenizer got wrong: the tokens and ids it should give (empty where only the way back is known), and gave."""

    text: str
    reason: str
    expected_ids: tuple[int, ...]
    got_ids: tuple[int, ...]
    expected: tuple[str, ...]
    got: tuple[str, ...]

    def line(self) -> str:
        """The difference on one line, from the first token that differs."""
        first = next((place for place, (a, b) in enumerate(zip(self.expected, self.got, strict=False)) if a != b), min(len(self.expected), len(self.got)))
        first = first if self.expected else 0
        return f"{self.text!r} ({self.reason}): {_some(self.expected, self.expected_ids, first)} ≠ {_some(self.got, self.got_ids, first)}"


def load_tokenizer(entry: ModelEntry, folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in `folder` the way `entry.tokenizer_loader` says, from local files only.

    Raises:
        ModelRefused: the files are not there or not of that kind.
    """
    loaders = {"auto": _load_auto, "spm_backend": _load_spm_backend, "tokenizers_unigram": _load_unigram}
    try:
        return loaders[entry.tokenizer_loader](entry, folder)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelRefused(
            en=f"The tokenizer of “{entry.id}” ({entry.tokenizer_loader}) could not be loaded from {folder}: {reason}",
            ja=f"「{entry.id}」のトークナイザー（{entry.tokenizer_loader}）を{folder}から読み込めません：{reason}",
            model=entry.id,
        ) from error


def compare_tokenizer(tokenizer: PreTrainedTokenizerBase, entry: ModelEntry, folder: Path) -> tuple[TokenDifference, ...]:
    """Every difference between what `tokenizer` gives and what it should give; none means the self-test passed."""
    sentencepiece = _open_sentencepiece(folder)
    found: list[TokenDifference] = []
    for text, golden in entry.tokenizer_golden.items():
        got = _encode(tokenizer, text)
        if got != list(golden):
            found.append(_difference(tokenizer, text, "golden ids", expected=list(golden), got=got))
    if sentencepiece is not None and not entry.tokenizer_golden:
        for text in TEST_TEXTS:
            expected, got = sentencepiece.encode(text), _encode(tokenizer, text)
            if expected != got:
                found.append(_difference(tokenizer, text, "sentencepiece", expected=expected, got=got, reference=sentencepiece))
    if not found:
        found += _compare_round_trips(tokenizer, sentencepiece)
    return tuple(found)


def refuse_differences(entry: ModelEntry, differences: Sequence[TokenDifference]) -> None:
    """Raise `ModelRefused` showing the first differing tokens, if there are any."""
    if not differences:
        return
    shown = "; ".join(difference.line() for difference in differences[:3])
    count = len(differences)
    raise ModelRefused(
        en=f"The tokenizer of “{entry.id}” ({entry.tokenizer_loader}) failed its self-test on {count} texts, expected ≠ got: {shown}. "
        "Set tokenizer_loader of this model to spm_backend or tokenizers_unigram.",
        ja=f"「{entry.id}」のトークナイザー（{entry.tokenizer_loader}）が自己診断の{count}件で一致しません（期待≠実際）：{shown}。"
        "このモデルのtokenizer_loaderをspm_backendかtokenizers_unigramにしてください。",
        model=entry.id,
        differences=tuple(differences),
    )


def find_sentencepiece(folder: Path) -> Path | None:
    """The sentencepiece model file in `folder`, by its usual names or as the only `*.model` file."""
    for name in _SENTENCEPIECE_FILES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*.model"))
    return others[0] if len(others) == 1 else None


def read_chat_template(folder: Path) -> str | None:
    """The chat template a model folder brings, from `chat_template.jinja` or its tokenizer configuration."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    template = _read_config(folder).get("chat_template")
    return template if isinstance(template, str) else None


def _load_auto(entry: ModelEntry, folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def _load_spm_backend(entry: ModelEntry, folder: Path) -> PreTrainedTokenizerBase:
    """The sentencepiece library itself inside a transformers tokenizer."""
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    file = _require_sentencepiece(folder)

    class SentencePieceTokenizer(SentencePieceBackend):  # type: ignore[misc, unused-ignore]
        vocab_files_names = {"vocab_file": file.name}

        def convert_tokens_to_string(self, tokens: list[str]) -> str:
            # the inherited one leaves byte pieces as text (<0x0A>) and cuts the spaces at both ends
            return str(self.sp_model.decode_pieces(tokens))

    return SentencePieceTokenizer.from_pretrained(str(folder), local_files_only=True)


def _load_unigram(entry: ModelEntry, folder: Path) -> PreTrainedTokenizerBase:
    """The sentencepiece unigram model rebuilt as a `tokenizers` object, byte fallback included (fast, same ids).

    Only for models that leave spaces alone: `tokenizers` applies such rules anew after every added token.
    """
    import sentencepiece.sentencepiece_model_pb2 as generated
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    proto: Any = generated  # made by protobuf at run time
    spec = proto.ModelProto()
    spec.ParseFromString(_require_sentencepiece(folder).read_bytes())
    if spec.trainer_spec.model_type != proto.TrainerSpec.UNIGRAM:
        raise ValueError("the sentencepiece model is not a unigram model; use spm_backend")
    trainer, rules = spec.trainer_spec, spec.normalizer_spec
    if rules.add_dummy_prefix or rules.remove_extra_whitespaces:
        raise ValueError("the sentencepiece model adds or removes spaces; use spm_backend")
    raw = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in spec.pieces], unk_id=trainer.unk_id, byte_fallback=trainer.byte_fallback))
    characters = [normalizers.Precompiled(rules.precompiled_charsmap)] if rules.precompiled_charsmap else []
    raw.normalizer = normalizers.Sequence([*characters, normalizers.Replace(" ", SPACE)])
    raw.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    kinds = proto.ModelProto.SentencePiece
    raw.add_special_tokens([AddedToken(piece.piece, normalized=False) for piece in spec.pieces if piece.type == kinds.CONTROL])
    raw.add_tokens([AddedToken(piece.piece, normalized=False) for piece in spec.pieces if piece.type == kinds.USER_DEFINED])
    names = {"unk": trainer.unk_id, "bos": trainer.bos_id, "eos": trainer.eos_id, "pad": trainer.pad_id}
    special: dict[str, Any] = {f"{role}_token": spec.pieces[place].piece for role, place in names.items() if place >= 0}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call, no-any-return, unused-ignore]
        tokenizer_object=raw, clean_up_tokenization_spaces=False, padding_side="left", chat_template=read_chat_template(folder), **special
    )


def _compare_round_trips(tokenizer: PreTrainedTokenizerBase, sentencepiece: SentencePieceProcessor | None) -> list[TokenDifference]:
    """Texts that do not come back. Characters may only be lost where sentencepiece loses them too."""
    found = []
    for text in TEST_TEXTS:
        ids = _encode(tokenizer, text)
        back = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if sentencepiece is not None:
            if sentencepiece.unk_id() in ids:
                continue
            expected = sentencepiece.decode(ids)
        else:
            expected = _normalise(tokenizer, text)
            if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
                found.append(_difference(tokenizer, text, "unknown token", expected=[], got=ids))
                continue
        if back not in (expected, expected.removeprefix(" ")):
            found.append(_difference(tokenizer, text, f"comes back as {back!r}", expected=[], got=ids))
    return found


def _normalise(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    return str(normalizer.normalize_str(text)).replace(SPACE, " ") if normalizer is not None else text


def _difference(
    tokenizer: PreTrainedTokenizerBase, text: str, reason: str, *, expected: list[int], got: list[int], reference: SentencePieceProcessor | None = None
) -> TokenDifference:
    if reference is not None:
        wanted = tuple(str(reference.id_to_piece(number)) for number in expected)
    else:
        wanted = tuple(str(token) for token in tokenizer.convert_ids_to_tokens(expected))
    return TokenDifference(
        text=text,
        reason=reason,
        expected_ids=tuple(expected),
        got_ids=tuple(got),
        expected=wanted,
        got=tuple(str(token) for token in tokenizer.convert_ids_to_tokens(got)),
    )


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [int(number) for number in tokenizer.encode(text, add_special_tokens=False)]


def _some(tokens: Sequence[str], ids: Sequence[int], first: int) -> str:
    part = [f"{token}({number})" for token, number in zip(tokens, ids, strict=True)][first : first + 4]
    return "[" + (" …" if first else "") + " ".join(part) + (" …" if len(tokens) > first + 4 else "") + "]"


def _open_sentencepiece(folder: Path) -> SentencePieceProcessor | None:
    from sentencepiece import SentencePieceProcessor

    file = find_sentencepiece(folder)
    return SentencePieceProcessor(model_file=str(file)) if file is not None else None


def _require_sentencepiece(folder: Path) -> Path:
    file = find_sentencepiece(folder)
    if file is None:
        raise OSError(f"no sentencepiece file ({', '.join(_SENTENCEPIECE_FILES)}) in {folder}")
    return file


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

"""The tokenizer trap: a sentencepiece model of rinna's layout, built here, and the three ways to load it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from llmops_kit.errors import ModelRefused
from llmops_kit.models import Models
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.tokenizer import TEST_TEXTS, compare_tokenizer, load_tokenizer, refuse_differences
from llmops_kit.settings import Settings
from tests.tiny_model import build_tiny_model

EXACT_LOADERS = ("spm_backend", "tokenizers_unigram")
SENTENCES = (
    "ユーザー: 有給休暇は何日ですか？",
    "システム: 年間20日です。くわしくは就業規則をご覧ください。",
    "吾輩は猫である。名前はまだ無い。",
    "日本の首都は東京です。",
    "Some English words and the number 123.",
)


def build_sentencepiece(folder: Path, *, name: str = "spiece.model", rules: str = "nmt_nfkc", model_type: str = "unigram", dummy_prefix: bool = False) -> Path:
    """Train a small sentencepiece model with byte fallback and extra spaces kept, as rinna's are."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 40),
        model_writer=model,
        vocab_size=420,
        hard_vocab_limit=False,
        model_type=model_type,
        byte_fallback=True,
        add_dummy_prefix=dummy_prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name=rules,
        user_defined_symbols=["<NL>"],
        unk_id=0,
        pad_id=1,
        bos_id=2,
        eos_id=3,
        unk_piece="[UNK]",
        pad_piece="[PAD]",
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(model.getvalue())
    config = {"tokenizer_class": "T5Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]", "pad_token": "[PAD]", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text('{"model_type": "gpt_neox"}')
    return folder


def build_rinna_model(folder: Path) -> Path:
    """The whole layout: `spiece.model`, a `T5Tokenizer` configuration, GPT-NeoX and safetensors weights."""
    import sentencepiece
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    build_sentencepiece(folder)
    size = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model")).get_piece_size()
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=2,
        eos_token_id=3,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rinna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_rinna_model(tmp_path_factory.mktemp("rinna"))


def entry_of(folder: Path, loader: str = "auto", **fields: object) -> ModelEntry:
    return ModelEntry(id="local", provider="huggingface", model=str(folder), tokenizer_loader=loader, **fields)  # type: ignore[arg-type]


def test_auto_gets_every_text_wrong_and_is_refused_with_the_tokens_shown(rinna: Path) -> None:
    entry = entry_of(rinna)
    differences = compare_tokenizer(load_tokenizer(entry, rinna), entry, rinna)
    assert len(differences) >= len(TEST_TEXTS) - 1
    first = differences[0]
    assert first.expected[0] == "ユ" and first.got[0] == "▁", "the leading space that should not be there"
    with pytest.raises(ModelRefused) as refused:
        refuse_differences(entry, differences)
    for language in ("en", "ja"):
        shown = refused.value.text(language)
        assert f"ユ({first.expected_ids[0]})" in shown
        assert f"▁({first.got_ids[0]})" in shown
        assert "spm_backend" in shown


@pytest.mark.parametrize("loader", EXACT_LOADERS)
@pytest.mark.parametrize("rules", ["nmt_nfkc", "identity"])
def test_the_exact_loaders_pass_whatever_the_character_rules(tmp_path: Path, loader: str, rules: str) -> None:
    folder = build_sentencepiece(tmp_path, rules=rules)
    entry = entry_of(folder, loader)
    assert compare_tokenizer(load_tokenizer(entry, folder), entry, folder) == ()


def test_a_model_that_adds_a_space_is_for_the_sentencepiece_library_only(tmp_path: Path) -> None:
    folder = build_sentencepiece(tmp_path, dummy_prefix=True)
    entry = entry_of(folder, "spm_backend")
    assert compare_tokenizer(load_tokenizer(entry, folder), entry, folder) == ()
    with pytest.raises(ModelRefused, match="adds or removes spaces"):
        load_tokenizer(entry_of(folder, "tokenizers_unigram"), folder)


@pytest.mark.parametrize("loader", EXACT_LOADERS)
def test_any_text_has_the_ids_and_the_way_back_of_sentencepiece(rinna: Path, loader: str) -> None:
    import sentencepiece

    reference = sentencepiece.SentencePieceProcessor(model_file=str(rinna / "spiece.model"))
    tokenizer = load_tokenizer(entry_of(rinna, loader), rinna)
    letters = strategies.one_of(strategies.sampled_from("有給休暇ですA1 \n　<NL>😀𠮷ｶﾞ①"), strategies.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]))

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(strategies.text(letters, max_size=40))
    def check(text: str) -> None:
        if "▁" in text or "<0x" in text or any(piece in text for piece in ("<s>", "</s>", "[UNK]", "[PAD]")):
            return
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == reference.encode(text)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == reference.decode(ids)

    check()


@pytest.mark.parametrize("loader", EXACT_LOADERS)
def test_the_model_answers_through_the_catalogue(rinna: Path, workspace: Path, loader: str) -> None:
    models = Models(Settings(workspace=workspace))
    models.add("rinna", provider="huggingface", model=str(rinna), tokenizer_loader=loader, prompt_style="rinna_nl", newline_token="<NL>", context_tokens=256)
    assert models.check("rinna").passed
    answer = models.chat("rinna").invoke([("user", "1行目\n2行目")], max_tokens=8, temperature=0)
    assert answer.usage_metadata is not None and 1 <= answer.usage_metadata["output_tokens"] <= 8
    assert answer.response_metadata["model_revision"].startswith("sha256:")


def test_the_trap_is_refused_through_the_catalogue(rinna: Path, workspace: Path) -> None:
    models = Models(Settings(workspace=workspace))
    models.add("rinna", provider="huggingface", model=str(rinna), prompt_style="rinna_nl", newline_token="<NL>")
    result = models.check("rinna")
    assert not result.passed and len(result.differences) >= len(TEST_TEXTS) - 1
    assert "▁(" in result._repr_markdown_()
    assert models.state("rinna").status == "refused"
    assert "≠" in models.state("rinna").text("ja")
    with pytest.raises(ModelRefused):
        models.chat("rinna")


def test_the_space_after_system_reaches_the_model(rinna: Path, workspace: Path) -> None:
    from llmops_kit.models.loading import load_model
    from llmops_kit.types import Message

    entry = entry_of(rinna, "spm_backend", prompt_style="rinna_nl", newline_token="<NL>")
    loaded = load_model(entry, rinna, Settings(workspace=workspace))
    ids = loaded.render([Message("user", "はい\nいいえ")])
    pieces = loaded.tokenizer.convert_ids_to_tokens(ids)
    assert pieces[-1].endswith("▁")
    assert pieces.count("<NL>") == 2 and "\n" not in "".join(pieces)


def test_golden_ids_decide_where_the_entry_has_them(rinna: Path) -> None:
    import sentencepiece

    reference = sentencepiece.SentencePieceProcessor(model_file=str(rinna / "spiece.model"))
    right = {"有給休暇 ": tuple(reference.encode("有給休暇 "))}
    entry = entry_of(rinna, "spm_backend", tokenizer_golden=right)
    assert compare_tokenizer(load_tokenizer(entry, rinna), entry, rinna) == ()
    wrong = entry_of(rinna, "spm_backend", tokenizer_golden={"有給休暇 ": (5, 6)})
    (difference,) = compare_tokenizer(load_tokenizer(wrong, rinna), wrong, rinna)
    assert difference.expected_ids == (5, 6) and difference.got_ids == right["有給休暇 "]


def test_a_bpe_sentencepiece_model_is_not_taken_for_a_unigram_one(tmp_path: Path) -> None:
    folder = build_sentencepiece(tmp_path, model_type="bpe")
    with pytest.raises(ModelRefused, match="not a unigram model"):
        load_tokenizer(entry_of(folder, "tokenizers_unigram"), folder)
    entry = entry_of(folder, "spm_backend")
    assert compare_tokenizer(load_tokenizer(entry, folder), entry, folder) == ()


def test_a_byte_level_tokenizer_passes_without_any_reference(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path)
    entry = entry_of(folder)
    assert compare_tokenizer(load_tokenizer(entry, folder), entry, folder) == ()


def test_a_tokenizer_that_loses_characters_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "有給": 1, "English": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    entry = entry_of(tmp_path)
    differences = compare_tokenizer(load_tokenizer(entry, tmp_path), entry, tmp_path)
    assert {difference.reason for difference in differences} >= {"unknown token"}
    with pytest.raises(ModelRefused, match="unknown token"):
        refuse_differences(entry, differences)


def test_a_loader_without_its_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"spiece\.model"):
        load_tokenizer(entry_of(tmp_path, "spm_backend"), tmp_path)


@pytest.mark.parametrize("loader", EXACT_LOADERS)
def test_a_typed_end_of_text_is_text_and_a_line_break_is_still_the_newline_token(rinna: Path, workspace: Path, loader: str) -> None:
    from llmops_kit.models.loading import load_model
    from llmops_kit.types import Message

    entry = entry_of(rinna, loader, prompt_style="rinna_nl", newline_token="<NL>")
    loaded = load_model(entry, rinna, Settings(workspace=workspace))
    ids = loaded.render([Message("user", "はい</s>いいえ\n<s>次")])
    assert not set(ids) & set(loaded.tokenizer.all_special_ids)
    assert str(loaded.tokenizer.decode(ids)) == "ユーザー: はい</s>いいえ<NL><s>次<NL>システム: "
    assert ids.count(loaded.tokenizer.convert_tokens_to_ids("<NL>")) == 2

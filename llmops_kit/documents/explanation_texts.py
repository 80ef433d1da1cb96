"""The sentences of an explanation in both languages: names of its stages, what happened there, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping

Sentence = Mapping[str, str]
"""`{"en": …, "ja": …}`"""

NAMES: Mapping[str, Sentence] = {
    "text": {"en": "In the extracted text", "ja": "抽出した文字の中"},
    "page": {"en": "Page and document", "ja": "ページと文書"},
    "chunk": {"en": "Chunk", "ja": "区間"},
    "terms": {"en": "Words in common", "ja": "質問と共通の語"},
    "lexical": {"en": "Rank by words", "ja": "単語での順位"},
    "dense": {"en": "Rank by meaning", "ja": "意味での順位"},
    "rank": {"en": "Rank of both", "ja": "総合順位"},
    "prompt": {"en": "In the prompt", "ja": "プロンプトの中"},
}

_TEXTS: Mapping[str, Sentence] = {
    # --- what happened
    "exact": {"en": "It is there, word for word.", "ja": "一字一句そのまま入っています。"},
    "folded": {"en": "It is there, apart from widths, case and white space.", "ja": "全角・半角、大文字・小文字、空白の違いを除いて入っています。"},
    "closest": {
        "en": "Not quite: the closest, {similarity:.0%} alike, is “{shown}”.",
        "ja": "そのままの形では見つかりません。最も近いのは「{shown}」（一致度{similarity:.0%}）です。",
    },
    "absent": {"en": "Nothing like it is in what was read.", "ja": "読み取った文字の中に見当たりません。"},
    "read": {"en": "It was read from the file.", "ja": "ファイルから読み取られています。"},
    "on_page": {"en": "It is in “{document}”, page {page}.", "ja": "「{document}」の{page}ページにあります。"},
    "in_document": {"en": "It is in “{document}”, line {line}.", "ja": "「{document}」の{line}行目にあります。"},
    "dropped": {"en": "Page {page} of “{document}” was left out.", "ja": "「{document}」の{page}ページは検索から外されています。"},
    "unsearched": {"en": "“{document}” is not searched yet ({state}).", "ja": "「{document}」はまだ検索の対象になっていません（{state}）。"},
    "no_chunk": {"en": "No chunk has it: the document is not indexed.", "ja": "どの区間にもありません。文書が索引されていません。"},
    "one_chunk": {"en": "It is in chunk {number} ({characters} characters).", "ja": "区間{number}（{characters}文字）に入っています。"},
    "split": {"en": "It is split over the chunks {numbers}.", "ja": "区間{numbers}に分かれています。"},
    "not_indexed": {"en": "The index does not have it yet.", "ja": "索引にまだ入っていません。"},
    "common": {
        "en": "{count} of {asked} terms of the question, {share:.0%} of their weight (chunks with each in brackets): {listed}",
        "ja": "質問の{asked}語のうち{count}語、重みの{share:.0%}（かっこ内はその語がある区間数）：{listed}",
    },
    "none_common": {"en": "None of the {asked} terms of the question.", "ja": "質問の{asked}語はどれもありません。"},
    "lexical": {"en": "Rank {rank}, BM25 {score:.2f}.", "ja": "{rank}位、BM25は{score:.2f}です。"},
    "lexical_none": {"en": "It is not found by words.", "ja": "単語では見つかりません。"},
    "dense": {"en": "Rank {rank}, cosine {cosine:.2f}.", "ja": "{rank}位、コサイン類似度は{cosine:.2f}です。"},
    "dense_none": {"en": "It is not found by meaning.", "ja": "意味では見つかりません。"},
    "within": {"en": "Rank {rank}; the first {k} are taken.", "ja": "{rank}位です。上位{k}件を使うので、入ります。"},
    "beyond": {"en": "Rank {rank}; only the first {k} are taken.", "ja": "{rank}位です。上位{k}件しか使わないので、入りません。"},
    "given": {"en": "“{model}” is given it, in source [{number}].", "ja": "「{model}」に資料[{number}]として渡されます。"},
    "given_part": {"en": "“{model}” is given only a part of it.", "ja": "「{model}」には一部しか渡されません。"},
    "left_out": {"en": "It was found but is left out of the prompt.", "ja": "検索では見つかりましたが、プロンプトには入りません。"},
    # --- what would change it
    "compare": {
        "en": "Compare the two. Where the file was read wrongly, read it again: kit.documents.reread(id, reader=…).",
        "ja": "両方を見比べてください。読み取りが違うときは、読み直せます：kit.documents.reread(id, reader=…)。",
    },
    "look_at_pages": {
        "en": "See whether its page was read as text at all: kit.documents.pages(id). Scanned pages need ocr=True.",
        "ja": "そのページが文字として読めているか確かめてください：kit.documents.pages(id)。スキャン画像にはocr=Trueが必要です。",
    },
    "unread": {"en": "“{document}” was not read: {reason_en}", "ja": "「{document}」は読めていません：{reason_ja}"},
    "take_back": {
        "en": "Take the page back in: kit.documents.drop_pages({id!r}, {others}).",
        "ja": "ページを検索に戻してください：kit.documents.drop_pages({id!r}, {others})。",
    },
    "index": {"en": "Index the document: kit.documents.index({id!r}).", "ja": "文書を索引してください：kit.documents.index({id!r})。"},
    "again": {"en": "Try again in a moment.", "ja": "少し待ってから、もう一度試してください。"},
    "chunk_size": {
        "en": "Larger chunks: kit.documents.rebuild({collection!r}, chunk_size={size}).",
        "ja": "区間を大きくする：kit.documents.rebuild({collection!r}, chunk_size={size})。",
    },
    "more": {"en": "Take more: k={k}.", "ja": "件数を増やす：k={k}。"},
    "mode": {"en": "Search with mode={mode!r}: it is rank {rank} there.", "ja": "mode={mode!r}で検索する：そこでは{rank}位です。"},
    "words": {"en": "Ask with words of the passage: {words}.", "ja": "文書にある言葉で質問する：{words}。"},
    "embedder": {
        "en": "Rebuild with an embedder that knows the languages of question and passage; now it is “{embedder}”.",
        "ja": "質問と文書の両方の言語に強い埋め込みで作り直す（今は「{embedder}」）。",
    },
    "reader": {
        "en": "starter-reader is given only the hits that score nearly as high as the best; a chat model is given all of them.",
        "ja": "starter-readerには、1位に近い得点の資料だけを渡します。チャットモデルならすべて渡します。",
    },
    "room": {
        "en": "A smaller k, or a model with a longer context, leaves more room for each source.",
        "ja": "kを小さくするか、コンテキストの長いモデルにすると、資料1件あたりの余裕が増えます。",
    },
    "model": {
        "en": "If the answer is wrong all the same, it is the model: ask with the words of the passage, or choose a larger one.",
        "ja": "それでも答えが違うなら、原因はモデルです。文書にある言葉で質問するか、より大きなモデルを選んでください。",
    },
}


def tell(key: str, **facts: object) -> Sentence:
    """The sentence `key` in both languages with its blanks filled."""
    return {language: text.format(**facts) for language, text in _TEXTS[key].items()}

"""English analysis without Java, against Lucene's own through Java: equal terms for every character and many strange texts."""

from __future__ import annotations

import itertools
import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from cribble.corpora import load_dataset
from cribble.index.analysis.automaton import deterministic, either, maybe, plus, star, then
from cribble.index.analysis.english import STOP_WORDS, EnglishAnalyzer
from cribble.index.analysis.vocabulary import Vocabulary, joined, write_vocabulary
from cribble.index.analysis.word_break import rules
from cribble.records import Document

DATA = Path(os.environ.get("CRIBBLE_DATA") or "/nowhere")

STRANGE = [
    "",
    " \t\n\r\x00\x0b\u00a0\u200b\ufeff",
    "nul\x00in\x00between a\x00b",
    "The rivers' cats, John's, JOHN’S, o＇s, x's's, 's, it's isn't don’t rock'n'roll l'homme 'quoted'",
    "1,000.50 3.14 -7 1e-9 192.168.0.1 12:30 50% $5 a.b.c U.S.A. e.g. i.e. 1,a a,1 1_000 _x_ __ a__b",
    "soft\u00adhyphen co\u00adop\u00aderate zero\u200bwidth zero\u200djoiner zero\u200cnon word\u2060joiner",
    "naïve na\u0131\u0308ve İstanbul ISTANBUL ıstanbul ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ STRASSE straße Ǆ ǅ Å",
    "木の中 漢字かな交じり文 カタカナ ｶﾀｶﾅ １２３ 한국어 조선말 ไทยภาษา ພາສາລາວ ខ្មែរ မြန်မာ",
    "שלום ר״ת צה\"ל ג'ירפה العربية ٣٫١٤ हिन्दी १२३ தமிழ்",
    "😀 👩‍👩‍👧 👍🏽 🏽 #️⃣ *⃣ 5⃣ 🇩🇪🇫🇷🇯 🏴\U000e0067\U000e0062\U000e007f ©️ ™ ☎︎ a😀b 1😀2",
    "𝒜𝓁𝓅𝒽𝒶 𐐀𐐁𐐨s 𠀀𠀁 \U00010400's \U0010ffff \ue000",
    "half \ud83d of \ude00 a pair \ud83d\ud83d",
    "a" * 255
    + "s "
    + "b" * 256
    + " "
    + "c" * 600
    + " "
    + "\U00010400" * 300
    + " "
    + "1," * 400
    + " a"
    + "\u0301" * 600,
    "skies dying flies flying cries ponies caresses sky happy sing singing sized hopping hoping falling filing as is us",
    "generalizations oscillators relational conditional rational valency hesitancy digitizer conformably radically",
    "logi biologi apologies apology agreed feed plastered bled motoring ion vision lion mission ication ties ie ies",
]


class Lucene:
    """Anserini's DefaultEnglishAnalyzer."""

    def __init__(self, folder):
        from cribble.index.lucene import LuceneIndex

        self.index = LuceneIndex.build(folder / "any", [Document("a", "b")], corpus="made")

    def refuse_differences(self, texts):
        texts = list(texts)
        mine, theirs = EnglishAnalyzer().analyze(texts), self.index.analyze(texts)
        differing = [(t, a, b) for t, a, b in zip(texts, mine, theirs, strict=True) if a != b]
        assert not differing, f"{len(differing)} of {len(texts)}, such as {[ascii(d) for d in differing[:3]]}"


@pytest.fixture(scope="module")
def lucene(tmp_path_factory):
    pytest.importorskip("pyserini")
    return Lucene(tmp_path_factory.mktemp("lucene"))


def test_terms_without_a_peer():
    found = EnglishAnalyzer().analyze(["The rivers' Generalizations of John's 3.14", "", "木 don’t"])
    assert found == [["river", "gener", "john", "3.14"], [], ["木", "don’t"]]


def test_stop_words_are_lucenes():
    jvm = pytest.importorskip("cribble.index.jvm")
    pytest.importorskip("pyserini")
    jvm.call("ping")
    import jnius

    theirs = jnius.autoclass("org.apache.lucene.analysis.en.EnglishAnalyzer").getDefaultStopSet()
    assert theirs.size() == len(STOP_WORDS)
    assert all(theirs.contains(jnius.autoclass("java.lang.String")(word)) for word in STOP_WORDS)


def test_strange_texts(lucene):
    lucene.refuse_differences(STRANGE)
    lucene.refuse_differences(" ".join(STRANGE[:i]) for i in range(len(STRANGE)))


def test_every_character_in_a_word(lucene):
    points = (*range(0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FB00), *range(0xE0000, 0xE0200))
    lucene.refuse_differences(f"{chr(p)} x{chr(p)}y" for p in points)


def test_random_strings_of_all_classes(lucene):
    rng = random.Random(1)
    found = rules()
    members = [np.flatnonzero(found.classes == number) for number in range(found.moves.shape[1])]
    members = [points[(points < 0xD800) | (points >= 0xE000)] for points in members]

    def text(classes):
        return "".join(chr(int(rng.choice(members[c]))) for c in classes)

    every = range(len(members))
    lucene.refuse_differences(text(rng.choices(every, k=rng.randrange(1, 12))) for _ in range(15_000))
    lucene.refuse_differences(text(rng.choices(rng.sample(every, 3), k=rng.randrange(2, 9))) for _ in range(15_000))
    long = (
        rng.choice(["a", "ab.", "a_1", "\U00010400a", "1,", "👩\u200d", "กa", "s'", "a\U00020000"]) for _ in range(300)
    )
    lucene.refuse_differences("".join(rng.choices(some, k=rng.randrange(250, 520))) for some in long)


def test_stems_of_made_up_words(lucene):
    rng = random.Random(2)
    endings = " ".join(
        [
            "ational tional enci anci izer bli alli entli eli ousli ization ator alism iveness fulness ousness aliti iviti",
            "biliti logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent sion tion ion",
            "ou ism ate iti ous ive ize sses ies ss s eed ed ing at bl iz y e ll tt zz",
        ]
    ).split()
    words = (
        "".join(rng.choices("aeiouybcdlmnstvwxzqré", k=rng.randrange(6)))
        + "".join(rng.choices(endings, k=rng.randrange(3)))
        for _ in range(60_000)
    )
    lucene.refuse_differences([" ".join(words)])


def test_many_words_grow_the_tables():
    analyzer = EnglishAnalyzer()
    texts = [" ".join(f"word{i}q" for i in range(first, first + 900)) for first in range(0, 90_000, 450)]
    found = analyzer.analyze(texts)
    assert [terms[0] for terms in found] == [f"word{450 * i}q" for i in range(200)]
    assert all(terms == text.split() for terms, text in zip(found, texts, strict=True))
    assert len(analyzer) == 90_450
    assert analyzer.analyze(texts) == found
    assert len(analyzer) == 90_450


def test_threads_share_an_analyzer():
    analyzer, alone = EnglishAnalyzer(), EnglishAnalyzer()
    texts = [" ".join(f"w{i * j % 7919}x" for i in range(200)) for j in range(200)]
    found = {}

    def work(number):
        numbers, offsets = analyzer.number(texts[number::4])
        found[number] = (numbers, offsets)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    terms = np.array(analyzer.terms(0, len(analyzer)), object)
    for number, (numbers, offsets) in found.items():
        mine = [terms[numbers[a:b]].tolist() for a, b in itertools.pairwise(offsets)]
        assert mine == alone.analyze(texts[number::4])


@pytest.mark.parametrize("seed", range(20))
def test_automata_are_regular_expressions(seed):
    """Random expressions over three symbols accept the same texts as Python's `re`."""
    import re

    rng = random.Random(seed)

    def expression(depth):
        if depth == 0 or rng.random() < 0.2:
            symbols = rng.sample(range(3), rng.randrange(1, 3))
            return frozenset(symbols), f"[{''.join('abc'[s] for s in symbols)}]"
        one, text = expression(depth - 1)
        other, more = expression(depth - 1)
        return rng.choice(
            [
                (then(one, other), f"{text}{more}"),
                (either(one, other), f"(?:{text}|{more})"),
                (star(one), f"(?:{text})*"),
                (plus(one), f"(?:{text})+"),
                (maybe(one), f"(?:{text})?"),
            ]
        )

    made, pattern = expression(4)
    moves, accepting = deterministic(made, 3)
    for _ in range(300):
        symbols = rng.choices(range(3), k=rng.randrange(7))
        state = 1
        for symbol in symbols:
            state = moves[state, symbol]
        assert bool(accepting[state]) == bool(re.fullmatch(pattern, "".join("abc"[s] for s in symbols))), pattern


def test_vocabularies_join_and_find(tmp_path):
    import pyarrow as pa

    lists = [["b", "木", "é", "a"], ["z", "b"], [], ["\U00010400", "\ue000"]]
    opened = []
    for i, terms in enumerate(lists):
        (tmp_path / str(i)).mkdir()
        write_vocabulary(tmp_path / str(i), pa.array(sorted(terms, key=str.encode), pa.large_string()))
        opened.append(Vocabulary(tmp_path / str(i)))
    everything = sorted({t for terms in lists for t in terms}, key=str.encode)
    assert joined(opened).to_pylist() == everything
    write_vocabulary(tmp_path, joined(opened))
    found = Vocabulary(tmp_path)
    assert [found[i] for i in range(len(found))] == everything
    assert found.numbers([*everything, "c", "", "zz", "\U00010401"]).tolist() == [
        *range(len(everything)),
        -1,
        -1,
        -1,
        -1,
    ]
    assert opened[2].numbers(["b"]).tolist() == [-1]


@pytest.mark.real
@pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA is not set")
@pytest.mark.parametrize("name", ["cranfield", "cosqa-dev", "flickr8k-captions", "screening-cohen2006"])
def test_collections(lucene, name):
    """Some documents and queries; all of all collections were compared once (docs/sparse.md)."""
    dataset = load_dataset(f"beir:{DATA / name}")
    texts = [document.full_text for document in dataset.documents()]
    lucene.refuse_differences([*texts[:: 1 + len(texts) // 1500], *(query.text for query in dataset.queries)])

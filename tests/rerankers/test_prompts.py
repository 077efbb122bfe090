"""Templates against the strings that upstream's own code builds, passage rules, shrinking, and files that are refused.

The oracle is `golden_prompts.json`: length and SHA-256 (short ones whole) of prompts that upstream code made of
`golden_inputs.py`; each entry names repository, commit, file and function. Turns are compared in one rendering,
`<|role|>`, line break, text, `</s>`, line break. Where upstream cuts by tokens, its tokenizer was one of words and marks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cribble.errors import InputError, UsageError
from cribble.models.calls import Message, Prompt
from cribble.records import Document
from cribble.rerankers.judges import TooLong
from cribble.rerankers.passages import PassageRules, no_brackets, repaired
from cribble.rerankers.prompts import Template, load_template, shrink, template_names
from cribble.tests.rerankers.golden_inputs import QUERIES, documents

_WORD = re.compile(r"\s*(?:\w+|[^\w\s])")
GOLDEN = json.loads((Path(__file__).parent / "golden_prompts.json").read_text(encoding="utf-8"))


def rendered(prompt: Prompt) -> str:
    if prompt.parts:
        return "\x1e".join(prompt.parts)
    return "".join(f"<|{m.role}|>\n{m.content}</s>\n" for m in prompt.messages) if prompt.messages else prompt.text


class WordTokens:
    """A tokenizer of words and marks, which puts one more token at the end of each prompt, as T5's does."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit

    def count(self, prompt: Prompt) -> int:
        return self.length(rendered(prompt) + prompt.tail) + 1

    def length(self, text: str) -> int:
        return len(_WORD.findall(text))

    def cut(self, text: str, tokens: int) -> str:
        found = _WORD.findall(text)
        return text if len(found) <= tokens else "".join(found[:tokens])

    def check_labels(self, prompt: Prompt, labels: Sequence[str]) -> None:
        raise NotImplementedError("no prompt is checked for labels")


TOKENS = WordTokens()


def built(template: Template, case: str) -> str:
    """Our string for a case: `q0 n20`, `q1 d0`, `q1 all`, `q0 pair 0 1`, `q0 pairs`."""
    query = QUERIES[int(case[1])]
    kind, _, rest = case[3:].partition(" ")
    tail = template.tail if template.name.endswith("-chat") else ""  # ielab's strings end with it
    shown = documents(100)
    if kind[0] == "n":
        return rendered(template.prompt(query, documents(int(kind[1:])), tokens=TOKENS)) + tail
    if kind[0] == "d":
        groups = [[shown[int(kind[1:])]]]
    elif kind == "pair":
        groups = [[shown[int(i)] for i in rest.split()]]
    else:
        groups = [[d] for d in shown] if kind == "all" else [shown[i : i + 2] for i in range(99)]
    return "\x1e".join(rendered(template.prompt(query, group, tokens=TOKENS)) + tail for group in groups)


def check(case: dict[str, object], text: str) -> None:
    if "text" in case:
        assert text == case["text"]
    assert (len(text.encode()), hashlib.sha256(text.encode()).hexdigest()) == (case["length"], case["sha256"])


def uncut(template: Template) -> Template:
    """Without `fit`, where upstream's string was made before its cut."""
    return replace(template, fit=None)


CASES = [
    (name, case)
    for name, entry in GOLDEN.items()
    for case in entry["cases"]
    if case[0] == "q" and not name.startswith("icr")
]
WITHOUT_CUT = {"mxbai-rerank-v2", "qwen3-reranker", "monot5", "monot5-yes-no", "monot5-sim-nao", "duot5", "rankt5"}
WITHOUT_CUT |= {"instruct-distill", "instruct-distill-llama", "upr"}


@pytest.mark.parametrize(("name", "case"), CASES)
def test_prompt_is_upstreams_byte_for_byte(name: str, case: str) -> None:
    template = load_template(name)
    text = built(uncut(template) if name in WITHOUT_CUT else template, case)
    check(GOLDEN[name]["cases"][case], text)


def test_every_template_has_a_golden_string() -> None:
    """All but the one that no code is known for, which is tested below."""
    assert set(template_names()) - set(GOLDEN) == {"prp-paper"}
    assert set(GOLDEN) <= set(template_names())
    for name in template_names():
        assert load_template(name).source, name


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("icr")])
def test_attention_prompt_and_spans_are_upstreams(name: str) -> None:
    """The whole prompt, the span of each document in it, that of the query, and that of the calibrating query."""
    template = load_template(name)
    for case, expected in GOLDEN[name]["cases"].items():
        call = template.attention(QUERIES[int(case[1])], documents(int(case[4:])))
        prompt = call.head + "".join(call.join + p for p in call.passages) + call.before + call.query + call.after
        check(expected, "\x1f".join([prompt, *call.passages, call.query, call.null_query]))


def test_prp_of_the_paper_is_ielabs_without_quotation_marks() -> None:
    """Built from the research card, not by upstream code: there is none; its white space is unconfirmed."""
    a, b = Document("a", "first"), Document("b", "second")
    prompt = load_template("prp-paper").prompt("q", [a, b], tokens=TOKENS)
    quoted = load_template("prp").prompt("q", [a, b], tokens=TOKENS)
    assert prompt.text == quoted.text.replace('"', "")
    assert prompt.tail == quoted.tail


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("rank1", "Passages about Africa are relevant."),
        ("mxbai-rerank-v2", "Rank rivers."),
        ("qwen3-reranker", "Rank rivers."),
    ],
)
def test_instructions_stand_where_upstream_puts_them(name: str, instruction: str) -> None:
    template = uncut(load_template(name))
    prompt = template.prompt(QUERIES[0], documents(1), instruction=instruction)
    check(GOLDEN[name]["cases"]["instruction"], rendered(prompt))
    assert rendered(prompt) != rendered(template.prompt(QUERIES[0], documents(1)))


def test_instruction_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="template monot5 has no place for an instruction"):
        load_template("monot5").prompt("q", documents(1), instruction="i", tokens=TOKENS)


# ---- shrinking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["first-rankllm", "first-original", "rankzephyr", "rankvicuna", "fullrank"])
@pytest.mark.parametrize("limit", [2000, 1200])
def test_shrink_loop_is_upstreams(name: str, limit: int) -> None:
    """20 passages in a small context: the same passages, cut at the same words. The answer is the list of 20 ids."""
    reserve = TOKENS.length(" > ".join(f"[{i + 1}]" for i in range(20))) + (name == "fullrank")  # FU counts its end
    tokens = WordTokens(limit)
    template, shown = load_template(name), documents(20)
    prompt, shrunk = shrink(template, QUERIES[0], shown, (), tokens, reserve)
    check(GOLDEN[name]["cases"][f"shrink {limit}"], rendered(prompt))
    assert shrunk == (tokens.count(template.prompt(QUERIES[0], shown)) + reserve > limit)
    assert tokens.count(prompt) + reserve <= limit


def test_shrink_leaves_what_fits_and_says_what_can_not() -> None:
    template, shown = load_template("rankzephyr"), documents(20)
    whole = template.prompt("q", shown)
    room = TOKENS.count(whole)
    assert shrink(template, "q", shown, (), WordTokens(room + 5), 5) == (whole, 0)
    assert shrink(template, "q", shown, (), WordTokens(None), 10**6) == (whole, 0)
    assert shrink(template, "q", shown, (), WordTokens(room + 4), 5)[1] == 1
    smallest = TOKENS.count(template.prompt("q", shown, words=1))
    prompt, shrunk = shrink(template, "q", shown, (), WordTokens(smallest), 0)
    assert (prompt, shrunk) == (template.prompt("q", shown, words=1), 1)
    with pytest.raises(
        TooLong, match=r"1 tokens too many for the model's .* even with one word of each of the 20 passages"
    ):
        shrink(template, "q", shown, (), WordTokens(smallest - 1), 0)


def test_shrink_starts_from_the_words_given_and_keeps_a_cut_by_tokens() -> None:
    template, shown = load_template("rankzephyr"), documents(20)
    assert shrink(template, "q", shown, (), TOKENS, 0, words=7) == (template.prompt("q", shown, words=7), 0)
    setwise = load_template("setwise")
    prompt, _ = shrink(setwise, "q", shown, (), WordTokens(1500), 0)
    assert all(TOKENS.length(p) <= 128 + 6 for p in prompt.text.split("\n\nPassage ")), "128 tokens, label and quotes"
    assert TOKENS.count(prompt) <= 1500


def test_without_a_system_role_first_prepends_it_as_upstream_did() -> None:
    prompt = load_template("first-original").prompt(QUERIES[0], documents(20))
    system, user = prompt.messages
    merged = Prompt((Message("user", system.content + prompt.without_system + user.content),))
    check(GOLDEN["first-original"]["cases"]["no system role"], rendered(merged))


# ---- passages -------------------------------------------------------------------------------------------------------


def test_brackets_are_replaced_as_the_official_expressions_do() -> None:
    text = "[12] [A] [AB] [a_b] [x1] [] [`] [1a] [[3]]"
    assert no_brackets(text, "numbers") == "(12) [A] [AB] [a_b] [x1] [] [`] [1a] [(3)]"
    # The class A-z also has the bracket itself, the backslash, the caret, the underscore and the backtick.
    assert no_brackets(text, "letters") == "[12] (A) (AB) (a_b) [x1] [] (`) [1a] [[3]]"
    assert no_brackets(text, "") == text


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (PassageRules(), " T  x  [1]\ny "),
        (PassageRules(titled="Title: {title} Content: {text}", strip=True), "Title:  T Content:  x  [1]\ny"),
        (PassageRules(words=2), "T x"),
        (PassageRules(words=3, spaces=True, titled="{title}|{text}"), " T| x "),
        (PassageRules(tokens=2), " T  x"),
        (PassageRules(brackets="numbers", drop=("y",)), " T  x  (1)\n "),
    ],
)
def test_rules_one_by_one(rules: PassageRules, expected: str) -> None:
    document = Document("d", " x  [1]\ny ", " T")
    assert rules.passage(document, TOKENS, rules.tokens) == expected


def test_words_given_replace_the_templates_cut_by_words_and_by_tokens() -> None:
    long = Document("d", " ".join(f"w{i}" for i in range(1000)))
    for name, own in (("rankzephyr", 300), ("setwise", 128)):
        template = load_template(name)
        assert f"w{own - 1}" in rendered(template.prompt("q", [long], tokens=TOKENS))
        assert f"w{own}" not in rendered(template.prompt("q", [long], tokens=TOKENS))
        for words in (5, 900):
            text = rendered(template.prompt("q", [long], words=words, tokens=TOKENS))
            assert f"w{words - 1}" in text
            assert f"w{words}" not in text
    with pytest.raises(UsageError, match="words is 0"):
        load_template("rankzephyr").prompt("q", [long], words=0)


def test_fit_cuts_passages_so_that_the_prompt_keeps_its_end() -> None:
    long = Document("d", " ".join(f"w{i}" for i in range(1000)))
    for name, shown in (("monot5", [long]), ("duot5", [long, long])):
        prompt = load_template(name).prompt("q", shown, tokens=TOKENS)
        assert prompt.text.endswith("Relevant:")
        assert 512 - 3 <= TOKENS.count(prompt) <= 512
    with pytest.raises(TooLong, match="fits prompts to 512 tokens, and without any passage this one has 1007 already"):
        load_template("monot5").prompt("w " * 1000, [long], tokens=TOKENS)
    with pytest.raises(UsageError, match="monot5 cuts by tokens: its prompt needs the tokenizer"):
        load_template("monot5").prompt("q", [long])


def test_fifty_thousand_characters_without_a_space_are_one_word() -> None:
    prompt = load_template("rankzephyr").prompt("q", [Document("d", "x" * 50_000)])
    assert "x" * 50_000 in prompt.messages[1].content


def test_repair_by_lines_is_ftfys_of_the_whole() -> None:
    """Oracle: ftfy itself, over each character of its own in a line, and over the odd texts in one."""
    import ftfy

    texts = [f"a{chr(i)}b &lt;\n" for i in range(0x2100)] + [document.text for document in documents(40)]
    whole = "".join(texts)
    assert repaired(whole, html=False) == ftfy.fix_text(whole, unescape_html=False)
    assert all(repaired(text, html=False) == ftfy.fix_text(text, unescape_html=False) for text in texts)
    assert repaired("&lt;\n<i>\n&lt;") == "<\n<i>\n&lt;"


# ---- names, counts, files -------------------------------------------------------------------------------------------


def test_names_and_labels_are_the_judges_to_choose() -> None:
    shown = [Document("a", "x"), Document("b", "y")]
    first = load_template("first-rankllm")
    assert "[Q] x\n[B] y\n" in first.prompt("q", shown, ("Q", "B")).messages[1].content
    assert first.prompt("q", shown) == first.prompt("q", shown, ("A", "B"))
    assert (first.answer("B"), first.label("B"), first.tail + first.label("B") + "]") == ("[B]", "B", "[B]")
    setwise = load_template("setwise")
    assert setwise.tail + setwise.label("C") == setwise.answer("C") == "Passage C"
    assert load_template("duot5").default_names(2) == ("0", "1")
    assert load_template("rankgpt").default_names(3) == ("1", "2", "3")
    with pytest.raises(UsageError, match="1 names for 2 documents"):
        first.prompt("q", shown, ("A",))


@pytest.mark.parametrize(
    ("name", "n", "message"),
    [
        ("first-rankllm", 27, "holds at most 26 documents, not 27"),
        ("setwise", 24, "holds at most 23 documents, not 24"),
        ("prp", 3, "asks about 2 documents, not about 3"),
        ("monot5", 2, "asks about 1 document, not about 2"),
    ],
)
def test_too_many_documents_are_refused(name: str, n: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_template(name).prompt("q", documents(n), tokens=TOKENS)


def test_unknown_template_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="template 'rankzefyr' is unknown: did you mean 'rankzephyr'"):
        load_template("rankzefyr")
    with pytest.raises(UsageError, match=r"template file nowhere\.yaml does not exist"):
        load_template("nowhere.yaml")


def test_a_users_own_template(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("verbs: [score]\ntext: '{query} | {passages}'\nlabels: [good, bad]\ndocument: {words: 2}\n")
    template = load_template(str(path))
    assert template.name == "mine"
    assert template.labels == ("good", "bad")
    assert template.prompt("q", [Document("d", "a b c")]).text == "q | a b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text: '{query}'", "has no verbs: say what it asks"),
        ("verbs: [rate]\ntext: x", "the verb 'rate' is unknown"),
        ("verbs: [score]", "needs one of turns, text and parts"),
        ("verbs: [score]\ntext: x\nparts: y", "needs one of turns, text and parts"),
        ("verbs: [score]\ntext: '{qurey}'", "{qurey} can't be filled there: did you mean 'query'"),
        ("verbs: [score]\ntext: x\npasage: y", "unknown key 'pasage': did you mean 'passage'"),
        ("verbs: [score]\ntext: 7", "text is 7, expected a text"),
        ("verbs: score\ntext: x", "verbs is 'score', expected a list"),
        ("verbs: [score]\ntext: x\nids: roman", "ids is 'roman', expected letters or numbers"),
        ("verbs: [score]\ntext: x\nftfy: true", "ftfy is True, expected a text"),
        ("verbs: [score]\ntext: x\ndocument: {word: 3}", "unknown key 'word': did you mean 'words'"),
        ("verbs: [score]\ntext: x\ndocument: {brackets: all}", "brackets is 'all', expected numbers or letters"),
        ("verbs: [score]\nturns: [{robot: x}]", "the turn {'robot': 'x'} is not one of system, user, assistant"),
        ("verbs: [score]\nturns: [{user: '{id}'}]", "{id} can't be filled there"),
        ("- a", "expected a mapping, found list"),
        ("a: [", "no valid YAML"),
    ],
)
def test_files_with_mistakes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"mine\.yaml") as error:
        load_template(str(path))
    assert message in str(error.value)

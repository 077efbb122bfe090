"""Reading generated answers. Oracles: golden cases by hand, rank_llm's own parser (recorded), and properties."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from cribble.errors import UsageError
from cribble.rerankers.identifiers import check_scheme, identifiers
from cribble.rerankers.parsing import REPAIRS, Form, exactly_named, final_answer, plain, read_choice, read_order
from hypothesis import example, given
from hypothesis import strategies as st

RECORDED = json.loads((Path(__file__).parent / "fixtures" / "rank_llm_permutations.json").read_text(encoding="utf-8"))


def numbers(n: int) -> Form:
    return Form(identifiers("numbers", n))


def letters(n: int) -> Form:
    return Form(identifiers("letters", n))


def passages(n: int) -> Form:
    return Form(identifiers("letters", n), "Passage ", "")


def counted(**kinds: int) -> dict[str, int]:
    return {f"repaired_{kind}": count for kind, count in kinds.items()}


#: text, number of documents, order from 0, counts.
GOLDEN = [
    ("[2] > [3] > [1]", 3, [1, 2, 0], {}),
    ("  [2] > [1]\n", 2, [1, 0], {}),
    ("[1]", 1, [0], {}),
    ("[2] > [2] > [1]", 2, [1, 0], counted(repeated=1)),
    ("[2] > [2] > [2]", 3, [1, 0, 2], counted(repeated=2, missing=2)),
    ("[3]", 3, [2, 0, 1], counted(missing=2)),
    ("[4] > [0] > [2]", 3, [1, 0, 2], counted(out_of_range=2, missing=2)),
    ("", 3, [0, 1, 2], counted(format=1, missing=3)),
    ("I cannot rank these.", 2, [0, 1], counted(format=1, missing=2)),
    ("[2]>[1]", 2, [1, 0], counted(format=1)),
    ("2 > 1", 2, [1, 0], counted(format=1)),
    ("[2], [1]", 2, [1, 0], counted(format=1)),
    ("[02] > [1]", 2, [1, 0], counted(format=1)),
    ("Sure! [2] > [1]. I hope that this helps.", 2, [1, 0], counted(format=1)),
    ("Here are the 3 passages: [2] > [1] > [3]", 3, [1, 0, 2], counted(format=1)),
    ("1. [3]\n2. [1]\n3. [2]", 3, [2, 0, 1], counted(format=1)),
    ("**[2]** > **[1]**", 2, [1, 0], counted(format=1)),
    ("[2] > [1] > ", 2, [1, 0], counted(format=1)),
    ("<think>[1] looks good, [3] too</think>\n[2] > [1] > [3]", 3, [1, 0, 2], {}),
    ("[1] is fine</think>[2] > [1]", 2, [1, 0], {}),
    ("<think>a</think>[1] > [2]</think>[2] > [1]", 2, [1, 0], {}),
    ("<think>[3] or [2] might", 3, [0, 1, 2], counted(format=1, missing=3)),
    ("<think>x</think> <answer> [2] > [1] </answer>", 2, [1, 0], {}),
    ("<answer>[1] > [2]</answer> no: <answer>[2] > [1]</answer>", 2, [1, 0], {}),
    ("<answer>[2] > [1]", 2, [1, 0], {}),
    ("[²] > [¹]", 2, [1, 0], counted(format=1)),
    ("［２］ ＞ ［１］", 2, [1, 0], counted(format=1)),
    ("[٢] > [١]", 2, [1, 0], counted(format=1)),
    ("②①③", 3, [1, 0, 2], counted(format=1)),
    ("[¹²] > [⁵]", 12, [11, 4, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10], counted(format=1, missing=10)),
    ("½ > [2]", 2, [1, 0], counted(format=1, missing=1)),
    ("9" * 5000, 2, [0, 1], counted(format=1, out_of_range=1, missing=2)),
]


@pytest.mark.parametrize(("text", "n", "order", "counts"), GOLDEN, ids=[repr(row[0])[:40] for row in GOLDEN])
def test_golden_numbers(text, n, order, counts):
    assert read_order(text, numbers(n)) == (order, counts)


@pytest.mark.parametrize(
    ("text", "n", "order", "counts"),
    [
        ("[B] > [A]", 2, [1, 0], {}),
        ("[C] > [Z] > [A] > [B]", 3, [2, 0, 1], counted(out_of_range=1)),
        ("B > C > A", 3, [1, 2, 0], counted(format=1)),
        ("[b] > [a]", 2, [1, 0], counted(format=1)),
        ("I think that A passage like [B] beats [A]", 2, [1, 0], counted(format=1)),
        ("I'd say B, then A.", 9, [1, 0, 2, 3, 4, 5, 6, 7, 8], counted(format=1, missing=7)),
        ("Passage A is good", 2, [0, 1], counted(format=1, missing=1)),
        ("BA", 2, [0, 1], counted(format=1, missing=2)),
        ("[Ｂ] > [Ａ]", 2, [1, 0], counted(format=1)),
    ],
)
def test_golden_letters(text, n, order, counts):
    assert read_order(text, letters(n)) == (order, counts)


@pytest.mark.parametrize(
    ("text", "top", "cut", "n", "order", "counts"),
    [
        ("[3] > [1]", 2, False, 4, [2, 0, 1, 3], {}),
        ("[3] > [1] > [4]", 2, True, 4, [2, 0, 1, 3], {}),
        ("[3]", 2, False, 4, [2, 0, 1, 3], counted(missing=1)),
        ("[3] > [1] >", None, True, 3, [2, 0, 1], counted(missing=1)),
        ("[3] > [1] >", None, False, 3, [2, 0, 1], counted(format=1, missing=1)),
        ("[3] > [1] > [2", None, True, 3, [2, 0, 1], {}),
        ("[5] > [1", None, True, 12, [4, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11], counted(missing=11)),
        ("5, 1", None, True, 12, [4, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11], counted(format=1, missing=11)),
        ("5, 1", None, False, 12, [4, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11], counted(format=1, missing=10)),
        ("[1] > [12]", 9, True, 12, [0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], counted(missing=7)),
    ],
)
def test_answers_that_end_early(text, top, cut, n, order, counts):
    assert read_order(text, numbers(n), top=top, cut=cut) == (order, counts)


def test_a_cut_chain_of_thought_has_no_answer_unless_it_was_told_apart_already():
    musing = "Perhaps [2], or else [3]"
    assert read_order(musing, numbers(3), cut=True, reasoning=True)[0] == [0, 1, 2]
    assert read_order("[3] > [2] > [1]", numbers(3), reasoning=True) == ([2, 1, 0], {})
    assert final_answer("<think> 1 </think> 2") == "2"


def test_other_forms_of_a_list():
    lrl = Form(("1", "2", "3"), "PASSAGE", "", ", ")
    assert read_order("PASSAGE2, PASSAGE3, PASSAGE1", lrl) == ([1, 2, 0], {})
    lines = Form(("A", "B"), "", "", "\n")
    assert read_order("B\nA", lines) == ([1, 0], {})
    assert read_order("B\nA\n", lines, cut=True) == ([1, 0], {})
    bare = Form(("1", "2", "3"), "", "")
    assert read_order("3 > 1 > 2", bare) == ([2, 0, 1], {})


@pytest.mark.parametrize(
    ("text", "position", "counts"),
    [
        ("Passage B", 1, {}),
        (" B", 1, {}),
        ("passage b\n", 1, {}),
        ("Passage B.", 1, counted(format=1)),
        ("The most relevant one is Passage C", 2, counted(format=1)),
        ("**C**", 2, counted(format=1)),
        ("<think>A or B?</think>Passage A", 0, {}),
        ("Passage A or Passage B", None, counted(unreadable=1)),
        ("Passage D", None, counted(unreadable=1)),
        ("None of them", None, counted(unreadable=1)),
        ("a lot", None, counted(unreadable=1)),
        ("", None, counted(unreadable=1)),
    ],
)
def test_golden_choices(text, position, counts):
    assert read_choice(text, passages(3), (" A", " B", " C")) == (position, counts)


def test_exact_names_only():
    assert exactly_named(" Passage B ", passages(2)) == 1
    assert exactly_named("B", passages(2)) is None
    assert exactly_named("B", passages(2), (" A", " B")) == 1
    assert exactly_named("Passage B, surely", passages(2)) is None


# ---- against rank_llm -----------------------------------------------------------------------------------------------


def test_the_same_permutations_as_rank_llm_but_for_the_explained_ones():
    different = 0
    for case in RECORDED["cases"]:
        form = letters(case["n"]) if case.get("letters") else numbers(case["n"])
        order, _ = read_order(case["text"], form)
        assert order == case.get("ours", case["order"]), case
        if "ours" in case:
            assert case["ours"] != case["order"]
            assert case["why"] in RECORDED["why"]
            different += 1
    assert len(RECORDED["cases"]) > 300
    assert different < 60


# ---- properties -----------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(alphabet=st.sampled_from("[]>, \n0123456789ABCI²③٣<think>/answer.") | st.characters(), max_size=80)


@given(ANY_TEXT, st.integers(0, 30), st.booleans(), st.none() | st.integers(1, 30), st.booleans())
@example("[1", 12, False, None, True)
@example("> > >", 2, True, 1, True)
def test_any_text_gives_a_permutation(text, n, lettered, top, cut):
    form = letters(min(n, 26)) if lettered else numbers(n)
    order, counts = read_order(text, form, top=top, cut=cut)
    assert sorted(order) == list(range(len(form.names)))
    assert all(kind in REPAIRS and count > 0 for kind, count in counts.items())
    assert read_choice(text, form)[0] in {None, *range(len(form.names))}


@given(st.integers(1, 26).flatmap(lambda n: st.permutations(range(n))), st.booleans(), st.booleans())
def test_well_formed_answers_are_read_as_they_are(order, lettered, cut):
    form = letters(len(order)) if lettered else numbers(len(order))
    assert read_order(form.whole(order), form, cut=cut) == (list(order), {})


@given(st.lists(st.integers(0, 15), max_size=40), st.integers(1, 12))
def test_counts_of_repairs_are_right(named, n):
    """Ids 1 to n are documents; the counts follow from the list alone."""
    order, counts = read_order(" > ".join(f"[{i}]" for i in named), numbers(n))
    valid = [i for i in named if 1 <= i <= n]
    first = list(dict.fromkeys(valid))
    assert order == [i - 1 for i in first] + [i for i in range(n) if i + 1 not in first]
    assert counts.get("repaired_missing", 0) == n - len(first)
    assert counts.get("repaired_repeated", 0) == len(valid) - len(first)
    assert counts.get("repaired_out_of_range", 0) == len(named) - len(valid)
    assert counts.get("repaired_format", 0) == (not named)


@given(ANY_TEXT, st.integers(1, 20))
def test_reading_what_was_repaired_repairs_nothing(text, n):
    order, _ = read_order(text, numbers(n))
    assert read_order(numbers(n).whole(order), numbers(n)) == (order, {})


@given(st.text())
def test_plain_text_stays(text):
    kept = "".join(sign for sign in text if sign.isascii())
    assert plain(kept) == kept


# ---- identifiers ----------------------------------------------------------------------------------------------------


def test_identifiers():
    assert identifiers("letters", 26) == tuple(string.ascii_uppercase)
    assert identifiers("numbers", 3) == ("1", "2", "3")
    assert identifiers("letters", 0) == ()
    with pytest.raises(UsageError, match=r"27 documents.*letters A to Z.*ids=numbers"):
        identifiers("letters", 27)
    with pytest.raises(UsageError, match=r"first: ids 'leters'.*'letters'"):
        check_scheme("first", "leters")

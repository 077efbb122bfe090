"""Reports: every form holds the numbers, names what was left out, needs nothing from outside and survives any name."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.eval import evaluate, make_report, mean_of_parts, parse_measures, with_judged, write_report
from cribble.eval.rendering import FORMATS, render

NASTY = 'a & b_<script>alert("1")</script> {$x^2} 50% #1 ~ \\ | `c` *d*'
QUICK = {"resamples": 300, "permutations": 2000}


def evaluations(names=("bm25", "dense", "hybrid"), queries=25, measures="nDCG@10 RR@10 Judged@10 NumRet", missing=0):
    """Runs that get better from name to name; the second lacks its last `missing` queries."""
    rng = np.random.default_rng(8)
    labels = {f"q{i}": {f"d{j}": max(0, int(rng.integers(-5, 3))) for j in range(15)} for i in range(queries)}
    found = []
    for n, name in enumerate(names):
        scores = {
            q: {d: label + (3 - n) * float(rng.normal()) for d, label in row.items()} for q, row in labels.items()
        }
        kept = dict(list(scores.items())[: queries - missing * (n == 1)])
        found.append(evaluate({q: row | {"new": 0.5} for q, row in kept.items()}, labels, measures, name=name))
    return found


@pytest.fixture(scope="module")
def report():
    return make_report(
        evaluations(missing=2),
        title="Sieves",
        seconds={"bm25": 0.002, "dense": 0.04, "hybrid": 1.5},
        warnings=["two queries are lost", "two queries are lost"],
        facts={"dataset": "sieves/test"},
        query_texts={"q24": "what is a cribble"},
        **QUICK,
    )


class Page(HTMLParser):
    """Collects tags, attributes and visible text, and fails on a tag that is not closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def plain(report, form):
    """The text that a reader of this form sees, near enough."""
    text = render(report, form)
    if form == "html":
        return Page(text).text
    if form == "md":
        return re.sub(r"\\([\\`*_{}\[\]<>#|~&])", r"\1", text)
    if form == "tex":
        return re.sub(r"\\textbf\{([^}]*)\}", r"\1", text).replace("\\_", "_").replace("\\%", "%")
    return text


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_has_the_numbers(report, form):
    text = plain(report, form)
    for row in report.rows:
        assert row.name in text
        for measure in report.measures:
            mean = row.evaluation.mean(measure)
            assert (str(mean) if form == "json" else f"{mean:.0f}" if "Num" in str(measure) else f"{mean:.4f}") in text
    for d in report.comparison.differences:
        assert (str(d.mean) if form == "json" else f"{d.mean:+.4f}") in text
        assert (str(d.interval.low) if form == "json" else f"{d.interval.low:+.4f}") in text
        assert f"{d.wins}/{d.ties}/{d.losses}" in text or form == "json"
    assert "Sieves" in text
    assert "Means are over all 25 judged queries" in text
    assert "dense: 2 judged queries have no results" in text
    if form != "tex":
        assert text.count("two queries are lost") == 1
    if form in ("html", "md", "json"):
        assert "sieves/test" in text


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_report_is_the_same_bytes(form):
    first, second = (make_report(evaluations(), seed=3, **QUICK) for _ in range(2))
    assert render(first, form) == render(second, form) == render(first, form)


def test_json_holds_what_the_report_knows(report):
    told = json.loads(render(report, "json"))
    assert list(told["runs"]) == ["bm25", "dense", "hybrid"]
    assert told["runs"]["dense"]["means"] == report.rows[1].evaluation.means
    assert told["runs"]["dense"]["counts"]["missing"] == 2
    assert told["runs"]["dense"]["missing"] == ["q23", "q24"]
    assert told["runs"]["hybrid"]["seconds_per_query"] == 1.5
    assert told["comparison"]["baseline"] == "bm25"
    assert len(told["comparison"]["differences"]) == 4  # two runs, nDCG@10 and RR@10; Judged@10 is not tested
    assert told["warnings"] == ["two queries are lost"]
    assert len(told["hardest"]) == 10


def test_the_page_loads_nothing(report):
    text = render(report, "html")
    page = Page(text)
    assert not set(page.tags) & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"https?:|//[a-z]|@import|url\(|javascript:", text)
    for name, value in page.attributes:
        assert name not in ("src", "href", "srcset", "action"), value
        assert not name.startswith("on"), value
    assert text.startswith("<!doctype html>")
    assert page.tags.count("svg") == 1 + 2 + 1  # means, one plot of differences a run, seconds
    assert "what is a cribble" in page.text


def test_best_runs_and_marks(report):
    main = report.main
    assert str(main) == "nDCG@10"
    assert report.best(main) == {"hybrid"}
    assert report.best(parse_measures("Judged@10")[0]) == set()
    difference = report.difference("hybrid", main)
    assert (difference.holm_randomisation < 0.05) == ("▲" in render(report, "md").split("## Against")[0])
    assert difference.holm_randomisation < 0.05
    assert r"\textbf{" + f"{report.rows[2].evaluation.mean(main):.4f}" + r"} $^{\blacktriangle}$" in render(
        report, "tex"
    )
    assert report.summary().startswith("hybrid is best by nDCG@10: ")


def test_equal_runs_share_the_first_place():
    first, second = evaluations(names=("a", "b"))
    report = make_report([first, second, second.renamed("c")], **QUICK)
    assert report.best(report.main) == {"b", "c"}
    assert report.summary().startswith(f"b and c are best by nDCG@10: {second.mean('nDCG@10'):.4f} [")


def test_a_worse_run_is_marked_down():
    report = make_report(evaluations(), baseline="hybrid", **QUICK)
    assert "▼" in render(report, "txt")
    assert "▲" not in render(report, "html").split("</style>")[1].split("<caption>")[1].split("</caption>")[1]
    assert 'aria-label="significantly worse than the baseline"' in render(report, "html")


# ---- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nasty():
    """The same odd text as title, run, query, fact and warning."""
    qrels = {f"{NASTY}{i}": {"a": 1, "b": 0} for i in range(4)}
    good = evaluate({q: {"a": 2.0, "b": 1.0} for q in qrels}, qrels, "nDCG@10 RR", name=NASTY)
    bad = evaluate({q: {"a": 1.0, "b": 2.0} for q in qrels}, qrels, "nDCG@10 RR", name=NASTY + "2")
    return make_report(
        [good, bad],
        title=NASTY,
        seconds={NASTY: 1.0, NASTY + "2": 2.0},
        warnings=[NASTY],
        facts={NASTY: NASTY},
        query_texts={f"{NASTY}0": NASTY},
    )


def test_names_in_html(nasty):
    page = Page(render(nasty, "html"))
    assert "script" not in page.tags
    assert page.text.count(NASTY) > 10
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert any(NASTY in label for label in labels)


def test_names_in_latex(nasty):
    """Every special letter is escaped: what is left unescaped is ours (columns, rows, mathematics of the marks)."""
    text = render(nasty, "tex").partition("\n")[2]  # the first line is a comment
    assert r"a \& b\_\textless{}script\textgreater{}alert(" in text
    assert r"\{\$x\textasciicircum{}2\} 50\% \#1 \textasciitilde{} \textbackslash{} \textbar{}" in text
    bare = re.sub(r"\\[&%$#_{}]", "", text)
    assert not re.search(r"[%#~<>]|&\w", bare)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"\^|_", re.sub(r"\$[^$]*\$", "", bare))
    for line in text.splitlines():
        if line.endswith(r" \\"):
            columns = len(re.sub(r"\\&", "", line).split("&"))
            assert columns in (6, 9)
    assert text.isascii()


def test_a_latex_row_that_starts_with_an_option():
    r"""After \\ LaTeX reads `[…]` as a length and `*` as a wish, also on the next line."""
    text = render(make_report(evaluations(names=("[2cm] run", "*starred")), **QUICK), "tex")
    assert "\n{}[2cm] run (baseline) & " in text
    assert text.count("\n{}*starred & ") == 3
    assert not re.search(r"^[\[*]", text, re.MULTILINE)


def test_names_in_markdown(nasty):
    rows = [line for line in render(nasty, "md").splitlines() if line.startswith("|")]
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) in (5, 7, 10)  # account, scores, tests
    assert "<script>" not in re.sub(r"\\<", "", render(nasty, "md"))


def test_names_in_text(nasty):
    assert NASTY in " ".join(render(nasty, "txt").split())
    report = make_report([evaluations(names=("[bold]run[/bold]",))[0]], **QUICK)
    assert "[bold]run[/bold]" in render(report, "txt")


# ---- one run, missing queries, parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_one_run(form):
    report = make_report(evaluations(names=("alone",)), title="One", **QUICK)
    text = plain(report, form)
    mean = report.rows[0].evaluation.mean("nDCG@10")
    assert (str(mean) if form == "json" else f"{mean:.4f}") in text
    assert "baseline" not in text.replace('"baseline": "alone"', "")
    assert "Tests:" not in text
    assert report.comparison.differences == ()
    assert report.summary().startswith("alone has nDCG@10 0.")


def test_hopeless_queries_are_not_the_hardest():
    qrels = {"q1": {"a": 1}, "q2": {"a": 0}, "q3": {"b": 1}}
    one = evaluate({q: {"a": 1.0} for q in qrels}, qrels, "RR")
    report = make_report([one])
    assert report.hardest() == [("q3", 0.0, 0.0), ("q1", 1.0, 1.0)]
    assert "1 of them have no relevant document and are 0 for every run." in report.notes()


def test_dropped_rows_are_said():
    one = evaluate({"q": {"a": 1.0}, "x": {"a": 1.0, "b": 0.5}}, {"q": {"a": 1}}, "RR", name="mine")
    assert "mine: 1 queries (2 rows) have no judgements and do not count." in make_report([one]).notes()


@pytest.mark.parametrize("form", FORMATS)
def test_parts(form):
    big, small = evaluations(names=("a", "b"), queries=20), evaluations(names=("a", "b"), queries=5)
    both = [mean_of_parts({"big": x, "small": y}) for x, y in zip(big, small, strict=True)]
    report = make_report(both, **QUICK)
    wanted = (big[1].mean("nDCG@10") + small[1].mean("nDCG@10")) / 2
    assert (str(report.rows[1].evaluation.mean("nDCG@10")) if form == "json" else f"{wanted:.4f}") in plain(
        report, form
    )
    assert report.rows[1].evaluation.mean("nDCG@10") == pytest.approx(wanted, abs=1e-12)
    assert "Means are over 2 parts of the collection (25 queries)" in plain(report, form)
    low, high = report.rows[1].intervals["nDCG@10"]
    assert low < wanted < high


@pytest.mark.parametrize("measures", ["NumRet", "Judged@10", "NumRet Judged@5"])
@pytest.mark.parametrize("form", FORMATS)
def test_nothing_to_test(measures, form):
    """Counts and Judged@k are shown and not tested."""
    report = make_report(evaluations(measures=measures), **QUICK)
    assert report.comparison.differences == ()
    assert measures.split()[0] in render(report, form)


@pytest.mark.parametrize("form", FORMATS)
def test_equal_runs_and_many_queries(form):
    """No variance is a note, and beyond 400 queries the plot is one outline."""
    first = evaluations(names=("a", "b"), queries=450)
    report = make_report([first[0], first[1], first[0].renamed("twin")], **QUICK)
    assert "equal on every query: no t-test and no effect size" in plain(report, form)
    assert form != "html" or '<path class="better"' in render(report, form)
    assert "NaN" not in render(report, form)
    assert "nan" not in plain(report, form)


def test_judged_beside_ndcg():
    assert [str(m) for m in with_judged("nDCG@10 AP nDCG@5 nDCG R@100")] == [
        "nDCG@10",
        "Judged@10",
        "AP",
        "nDCG@5",
        "Judged@5",
        "nDCG",
        "R@100",
    ]
    assert [str(m) for m in with_judged("Judged@10 nDCG@10")] == ["Judged@10", "nDCG@10"]


# ---- files and errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_written_whole(report, form, tmp_path):
    path = tmp_path / "new folder" / f"report.{form.upper()}"
    write_report(report, path)
    assert path.read_text(encoding="utf-8") == render(report, form)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_report(tmp_path):
    """With RLIMIT_FSIZE the page does not fit: the file that was there stays, and nothing lies beside it."""
    path = tmp_path / "report.html"
    path.write_text("the old one")
    code = (
        "import resource, sys; from cribble.eval import evaluate, make_report, write_report\n"
        "r = make_report([evaluate({'q': {'a': 1.0}}, {'q': {'a': 1}}, 'RR')])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_report(r, sys.argv[1])"
    )
    told = subprocess.run([sys.executable, "-c", code, str(path)], cwd="/", capture_output=True, text=True, check=False)
    assert "File too large" in told.stderr
    assert path.read_text() == "the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.html.gz"])
def test_wrong_ending(report, name, tmp_path):
    with pytest.raises(UsageError, match=r"a report is written as \.html, \.md, \.tex, \.json, \.txt"):
        write_report(report, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_wrong_form_and_arguments(report):
    with pytest.raises(UsageError, match="no form 'htm': did you mean 'html'"):
        render(report, "htm")
    with pytest.raises(UsageError, match="at least one evaluation"):
        make_report([])
    with pytest.raises(UsageError, match=r"seconds are given for 'bm52', .* did you mean 'bm25'"):
        make_report(evaluations(), seconds={"bm52": 1.0})
    with pytest.raises(UsageError, match=r"baseline 'bm52' .* did you mean 'bm25'"):
        make_report(evaluations(), baseline="bm52")

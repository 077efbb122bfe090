"""Every form of the commands, end to end through the console script on a small BEIR folder."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from cribble.configs.building import check_stages
from cribble.configs.schema import load_config, preset_names
from cribble.eval import parse_measures
from cribble.tests.cli.script import DOCUMENTS, JUDGED, QUERIES, collection_files, write_files

MEASURES = "nDCG@10 R@100 RR"
CONFIG = {
    "dataset": "beir:animals",
    "pipeline": {
        "bm25": [{"use": "bm25", "k": 10}],
        "dense": [{"use": "dense", "k": 10}],
        "rrf": [{"use": "hybrid", "of": [{"use": "bm25", "k": 10}, {"use": "dense", "k": 10}]}],
        "bm25 >> maxsim": [{"use": "bm25", "k": 10}, {"use": "maxsim", "depth": 5}],
    },
    "measures": MEASURES,
}


def dumped(config):
    return yaml.safe_dump(config, sort_keys=False)


BM25_ONLY = CONFIG | {"pipeline": [{"use": "bm25", "k": 10}]}


@pytest.fixture
def place(tmp_path):
    """A working folder with the collection `animals` and the configs `all.yaml` and `bm25.yaml`."""
    write_files(tmp_path, {f"animals/{name}": content for name, content in collection_files().items()})
    write_files(tmp_path, {"all.yaml": dumped(CONFIG), "bm25.yaml": dumped(BM25_ONLY)})
    return tmp_path


@pytest.fixture(scope="module")
def runs(cribble, collection, bm25_index, dense_index, tmp_path_factory):
    """bm25.trec and dense.trec of the collection, made by `retrieve`."""
    folder = tmp_path_factory.mktemp("runs")
    for name, index in (("bm25", bm25_index), ("dense", dense_index)):
        out = folder / f"{name}.trec"
        done = cribble("retrieve", index, "--dataset", f"beir:{collection}", "--out", out, "--json", cwd=folder)
        assert done.answer["command"] == "retrieve"
        assert done.results["queries"] == len(QUERIES)
        assert done.answer["warnings"] == []
    return folder


def rows(path):
    return [line.split() for line in Path(path).read_text().splitlines()]


# ---- the steps ----------------------------------------------------------------------------------------------------------


def test_index_describes_what_it_built(cribble, place):
    done = cribble("index", "beir:animals", "--retriever", "bm25", "--out", "i", "--json", cwd=place)
    results = done.results
    assert (results["kind"], results["documents"]) == ("lucene", len(DOCUMENTS))
    assert results["bytes"] == sum(p.stat().st_size for p in (place / "i").rglob("*") if p.is_file()) - sum(
        (place / "i" / name).stat().st_size
        for name in ("manifest.json", "plan.json", "lock")
        if (place / "i" / name).exists()
    )
    replaced = cribble("index", "beir:animals", "--retriever", "bm25", "--out", "i", "--overwrite", "--json", cwd=place)
    assert replaced.results["fingerprint"] == results["fingerprint"]


def test_retrieve_writes_a_trec_run(runs):
    for name in ("bm25", "dense"):
        found = rows(runs / f"{name}.trec")
        assert {row[0] for row in found} == set(QUERIES)
        assert all(len(row) == 6 and row[1] == "Q0" and row[5] == name for row in found)
    assert len(rows(runs / "dense.trec")) == len(QUERIES) * len(DOCUMENTS), "k > n gives every document"
    assert rows(runs / "bm25.trec")[0][2] in JUDGED["q1"]


@pytest.mark.parametrize("ending", [".trec.gz", ".parquet", ".jsonl", ".jsonl.gz"])
def test_retrieve_writes_every_kind_of_run(ending, cribble, collection, bm25_index, runs, tmp_path):
    done = cribble("retrieve", bm25_index, "--dataset", f"beir:{collection}", "--out", f"bm25{ending}", cwd=tmp_path)
    assert done.code == 0, done.err
    scores = cribble(
        "eval", f"bm25{ending}", "--dataset", f"beir:{collection}", "--measures", MEASURES, "--json", cwd=tmp_path
    )
    whole = cribble(
        "eval", runs / "bm25.trec", "--dataset", f"beir:{collection}", "--measures", MEASURES, "--json", cwd=tmp_path
    )
    assert scores.results == whole.results


def test_rerank_reorders_the_best_and_keeps_the_rest_beneath(cribble, collection, dense_index, runs, tmp_path):
    common = ["rerank", runs / "bm25.trec", "--dataset", f"beir:{collection}", "--reranker", "maxsim", "--depth", "3"]
    done = cribble(*common, "--out", "r.trec", "--json", cwd=tmp_path)
    before, after = rows(runs / "bm25.trec"), rows(tmp_path / "r.trec")
    assert done.results["rows"] == len(before) == len(after)
    for query in QUERIES:
        old, new = ([row[2] for row in part if row[0] == query] for part in (before, after))
        assert sorted(new[:3]) == sorted(old[:3])
        assert new[3:] == old[3:]
    assert [row[2] for row in before] != [row[2] for row in after]
    from_index = cribble(*common, "--index", dense_index, "--out", "r2.trec", "--json", cwd=tmp_path)
    assert from_index.results["rows"] == len(after)
    assert [row[:5] for row in rows(tmp_path / "r2.trec")] == [row[:5] for row in after]


def test_fuse_eval_and_compare(cribble, collection, runs, tmp_path):
    two = [runs / "bm25.trec", runs / "dense.trec"]
    fused = cribble("fuse", *two, "--out", "both.trec", "--json", cwd=tmp_path)
    assert fused.results["method"] == "rrf"
    first = rows(tmp_path / "both.trec")[0]
    ranks = [int(row[3]) for path in two for row in rows(path) if (row[0], row[2]) == (first[0], first[2])]
    assert len(ranks) == 2
    assert float(first[4]) == pytest.approx(sum(1 / (60 + rank) for rank in ranks), rel=1e-6)
    weights = ["--method", "wsum", "--norm", "min-max", "--weights", "0.7,0.3", "--depth", "2"]
    assert cribble("fuse", *two, "--out", "w.trec", *weights, "--json", cwd=tmp_path).results["rows"] == 8

    judged = ["--dataset", f"beir:{collection}", "--measures", MEASURES, "--json"]
    scored = cribble("eval", *two, "both.trec", *judged, cwd=tmp_path)
    assert set(scored.results) == {"bm25", "dense", "both"}
    assert all(set(values) == set(MEASURES.split()) for values in scored.results.values())
    by_file = ["--qrels", collection / "qrels/test.tsv", *judged[2:]]
    assert cribble("eval", *two, "both.trec", *by_file, cwd=tmp_path).results == scored.results

    report = ["--baseline", "dense", "--out", "c.html"]
    compared = cribble("compare", *two, "both.trec", *judged, *report, cwd=tmp_path)
    assert compared.answer["command"] == "compare"
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "both" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "one self-contained page"


def test_eval_per_query_and_ties(cribble, runs, collection, tmp_path):
    options = ["--dataset", f"beir:{collection}", "--measures", "RR", "--ties", "float64", "--per-query", "--json"]
    results = cribble("eval", runs / "bm25.trec", *options, cwd=tmp_path).results["bm25"]
    values = [row["RR"] for row in results["per_query"].values()]
    assert set(results["per_query"]) == set(QUERIES)
    assert sum(values) / len(values) == pytest.approx(results["RR"])


def test_search_answers_with_snippets(cribble, bm25_index, dense_index, tmp_path):
    for index in (bm25_index, dense_index):
        hits = cribble("search", index, "how is bread baked?", "--k", "2", "--json", cwd=tmp_path).results
        assert hits[0]["id"] == "bread"
        assert hits[0]["text"] == DOCUMENTS["bread"][1]
        shown = cribble("search", index, "how is bread baked?", "--k", "2", cwd=tmp_path)
        assert "flour" in shown.out
    nothing = cribble("search", bm25_index, "xyzzy", cwd=tmp_path)
    assert (nothing.code, nothing.out.splitlines()[-1]) == (0, "nothing found")


@pytest.mark.parametrize("what", ["datasets", "retrievers", "rerankers", "measures", "models", "fusions", "configs"])
def test_list(what, cribble, tmp_path):
    named = {
        "datasets": "sample:stdlib", "retrievers": "bm25", "rerankers": "maxsim", "measures": "nDCG",
        "models": "sentence-transformers/all-MiniLM-L6-v2", "fusions": "rrf", "configs": "demo",
    }  # fmt: skip
    results = cribble("list", what, "--json", cwd=tmp_path).results
    assert named[what] in [row["name"] for row in results]
    assert all(row["description"] for row in results)


def test_doctor(cribble, bm25_index, tmp_path):
    results = cribble("doctor", bm25_index, "--json", cwd=tmp_path).results
    states = {row["what"]: row["state"] for row in results}
    assert states["python"] == states["java"] == states["embedded model"] == states[str(bm25_index)] == "ok"


# ---- run ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(cribble, tmp_path_factory):
    """A folder with the finished experiment of `all.yaml` in `out`, and the command's answer."""
    folder = tmp_path_factory.mktemp("experiment")
    write_files(folder, {f"animals/{name}": content for name, content in collection_files().items()})
    write_files(folder, {"all.yaml": dumped(CONFIG)})
    done = cribble("run", "all.yaml", "runtime.seed=7", "--out", "out", "--json", cwd=folder)
    return folder, done


def numbers(answer):
    """A report without what may differ between two equal runs: seconds and warnings."""
    text = json.dumps(answer["results"], sort_keys=True)
    return json.loads(text, object_hook=lambda d: {k: v for k, v in d.items() if "seconds" not in k})


def test_run_leaves_runs_reports_config_and_manifest(finished):
    folder, done = finished
    assert done.answer["command"] == "run"
    out = folder / "out"
    assert {"config.yaml", "manifest.json", "report.html", "report.md", "report.json", "stages"} <= {
        p.name for p in out.iterdir()
    }
    assert len(list(out.glob("*.trec"))) == 4
    stored = yaml.safe_load((out / "config.yaml").read_text())
    assert stored["runtime"] == {"seed": 7, "device": "auto", "threads": None, "indexes": "indexes"}
    assert stored["pipeline"] == CONFIG["pipeline"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert [system["name"] for system in manifest["systems"]] == list(CONFIG["pipeline"])
    assert manifest["versions"]["torch"]
    assert done.results["folder"] == "out"


def test_rerun_resumes_and_gives_the_same_numbers(finished, cribble):
    folder, done = finished
    files = {p: p.read_bytes() for p in sorted((folder / "out" / "stages").iterdir())}
    again = cribble("run", "all.yaml", "runtime.seed=7", "--out", "out", "--json", cwd=folder)
    assert numbers(again.answer) == numbers(done.answer)
    assert {p: p.read_bytes() for p in sorted((folder / "out" / "stages").iterdir())} == files
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    resumed = [cost["resumed"] for system in manifest["systems"] for cost in system["costs"] if "resumed" in cost]
    assert set(resumed) == {len(QUERIES)}


def test_another_folder_gives_the_same_run_and_reuses_the_indexes(finished, cribble):
    folder, done = finished
    before = {p: p.stat().st_mtime_ns for p in sorted((folder / "indexes").rglob("*"))}
    assert len(list((folder / "indexes").iterdir())) == 2
    again = cribble("run", "all.yaml", "runtime.seed=7", "--out", "other", "--json", cwd=folder)
    assert {
        p: p.stat().st_mtime_ns for p in sorted((folder / "indexes").rglob("*")) if p.name != "lock"
    }.items() <= before.items()
    for path in (folder / "out").glob("*.trec"):
        assert path.read_bytes() == (folder / "other" / path.name).read_bytes()
    one, two = numbers(done.answer), numbers(again.answer)
    for answer in (one, two):
        answer.pop("folder"), answer.pop("report")
    assert one == two


def test_a_folder_with_another_config_is_refused(finished, cribble):
    folder, _ = finished
    done = cribble("run", "all.yaml", "runtime.seed=8", "--out", "out", cwd=folder)
    assert done.code == 2
    assert "another config" in done.error


def test_changed_documents_get_a_new_index(cribble, place):
    first = cribble("run", "bm25.yaml", "--out", "one", "--json", cwd=place)
    corpus = place / "animals/corpus.jsonl"
    corpus.write_bytes(corpus.read_bytes().replace(b"molten rock called lava", b"much smoke and ash  ...")[:])
    assert first.results != cribble("run", "bm25.yaml", "--out", "two", "--json", cwd=place).results
    assert len(list((place / "indexes").iterdir())) == 2
    one, two = (rows(next((place / name).glob("*.trec"))) for name in ("one", "two"))
    assert ["q4", "volcano"] in [[row[0], row[2]] for row in one]
    assert ["q4", "volcano"] not in [[row[0], row[2]] for row in two]
    cribble("run", "bm25.yaml", "--out", "one", "--json", cwd=place)
    assert rows(next((place / "one").glob("*.trec"))) == two, "checkpoints of the old documents are not used"


def test_overrides_reach_the_stages(cribble, place):
    one = cribble("run", "bm25.yaml", "--out", "one", "--json", "pipeline.0.k=2", "measures=P@2", cwd=place)
    assert max(int(row[3]) for row in rows(next((place / "one").glob("*.trec")))) == 2
    assert "P@2" in json.dumps(one.results)


def test_run_by_default_goes_to_a_folder_of_its_name_and_hash(cribble, place):
    done = cribble("run", "bm25.yaml", cwd=place)
    assert done.code == 0, done.err
    folder = next((place / "runs").iterdir())
    assert folder.name.startswith("bm25-")
    assert done.out.splitlines()[-1] == f"report: {folder.resolve() / 'report.html'}"
    assert "nDCG@10" in done.out


def test_search_through_a_config(finished, cribble):
    folder, _ = finished
    hits = cribble("search", "all.yaml", "how is bread baked?", "--k", "1", "--json", cwd=folder).results
    assert [hit["id"] for hit in hits] == ["bread"]


# ---- being killed, piped, only asked ------------------------------------------------------------------------------------


def test_ctrl_c_says_so_in_one_line_and_a_rerun_completes(cribble, tmp_path):
    queries = {f"q{i}": text for i in range(1, 400) for text in ["strings mice bread rock " * 4 + str(i)]}
    write_files(tmp_path, {f"animals/{name}": content for name, content in collection_files().items()})
    qrels = "".join(f"{q} 0 owl 1\n" for q in queries)
    write_files(tmp_path, {
        "animals/queries.jsonl": "".join(json.dumps({"_id": q, "text": t}) + "\n" for q, t in queries.items()),
        "animals/qrels/test.tsv": qrels,
        "slow.yaml": dumped(CONFIG | {"pipeline": {"m": [{"use": "bm25"}, {"use": "maxsim", "cache_mb": 0}]}}),
    })  # fmt: skip
    process = cribble.start("run", "slow.yaml", "--out", "out", "--json", cwd=tmp_path)
    wait_for(lambda: list((tmp_path / "out").glob("stages/maxsim-*.jsonl")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == b""
    assert err.decode().splitlines()[-1] == "error: interrupted; run the same command again to go on"
    assert b"Traceback" not in err
    assert not (tmp_path / "out/report.html").exists()
    resumed = cribble("run", "slow.yaml", "--out", "out", "--json", cwd=tmp_path)
    whole = cribble("run", "slow.yaml", "--out", "whole", "--json", cwd=tmp_path)
    assert resumed.code == whole.code == 0, resumed.err
    assert (tmp_path / "out/m.trec").read_bytes() == (tmp_path / "whole/m.trec").read_bytes()
    costs = json.loads((tmp_path / "out/manifest.json").read_text())["systems"][0]["costs"]
    assert 0 < costs[-1]["resumed"] < len(queries)


def wait_for(happened, process, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "command",
    [
        "index beir:animals --retriever bm25 --out new",
        "index beir:animals --retriever dense --out new",
        "retrieve {bm25} --dataset beir:animals --out new.trec",
        "rerank {runs}/bm25.trec --dataset beir:animals --reranker maxsim --out new.trec",
        "run all.yaml --out new",
        "run all.yaml",
    ],
)
def test_dry_run_estimates_and_does_nothing(command, cribble, place, bm25_index, runs):
    before = sorted(place.rglob("*"))
    command = command.format(bm25=bm25_index, runs=runs).split()
    assert cribble(*command, "--dry-run", "--json", cwd=place).results
    shown = cribble(*command, "--dry-run", cwd=place)
    assert "seconds are rough" in shown.out
    assert sorted(place.rglob("*")) == before


def test_dry_run_finds_what_a_run_would(cribble, place):
    for override in ("measures=nDGC@10", "baseline=x", "pipeline.bm25.0.b=7", "pipeline.bm25.0.use=maxsim"):
        real, dry = (cribble("run", "all.yaml", override, *more, cwd=place) for more in ((), ("--dry-run",)))
        assert (dry.code, dry.error) == (real.code, real.error)


def test_a_closed_pipe_is_no_error(cribble, tmp_path):
    process = cribble.start("list", "datasets", cwd=tmp_path)
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.returncode == 0


def test_a_pipe_gets_no_progress_bar(finished, cribble, place):
    done = cribble("index", "beir:animals", "--retriever", "dense", "--out", "i", cwd=place)
    assert done.code == 0, done.err
    for text in (done.out, done.err, finished[1].err):
        assert not set(text) & set("\r\x1b━█")
    assert done.out.count("\n") == 1


def test_a_terminal_gets_a_progress_bar(cribble, place):
    master, slave = pty.openpty()
    process = cribble.start(
        "index", "beir:animals", "--retriever", "dense", "--out", "i", cwd=place, env={"TERM": "xterm"}, stderr=slave
    )
    os.close(slave)
    shown = b""
    while select.select([master], [], [], 120)[0]:
        try:
            shown += os.read(master, 4096)
        except OSError:  # the other side is closed
            break
    os.close(master)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "index i" in shown.decode()


def test_json_is_alone_on_stdout_also_with_warnings(cribble, place):
    (place / "animals/corpus.jsonl").write_text('{"_id": 1, "text": "one"}\n')
    done = cribble("index", "beir:animals", "--retriever", "bm25", "--out", "i", "--json", cwd=place)
    warning = "animals/corpus.jsonl: 1 ids are numbers, read as text (12 becomes '12')"
    assert done.answer["warnings"] == [warning]
    assert f"warning: {warning}" in done.err.splitlines()


def test_version(cribble, tmp_path):
    import cribble as package

    done = cribble("--version", cwd=tmp_path)
    assert (done.code, done.out) == (0, f"cribble {package.__version__}\n")


@pytest.mark.parametrize("name", preset_names())
def test_shipped_configs_are_sound(name, cribble, place):
    config = load_config(name)
    for stages in config.pipeline.values():
        check_stages(stages)
    assert parse_measures(config.measures or "nDCG@10")
    results = cribble("run", name, "dataset=beir:animals", "--dry-run", "--json", cwd=place).results
    assert results["systems"] == list(config.pipeline)
    assert results["steps"]


def test_subcommand_help_names_every_option(cribble, tmp_path):
    for command in ("index", "retrieve", "rerank", "fuse", "eval", "compare", "run", "search", "list", "doctor"):
        done = cribble(command, "--help", cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        assert "--json" in done.out
    assert subprocess.run([cribble.path], capture_output=True, cwd=tmp_path, check=False).returncode == 2

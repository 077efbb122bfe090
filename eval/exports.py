"""Results in other people's forms: BEIR's bundle of TREC runs, BRIGHT's score.json, Pyserini's run, ir_metadata's header, mteb's JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, UsageError
from ..files import write_whole
from ..records import Run
from .results_store import Result

#: What a header of a run needs, by ir_metadata 0.1 (Breuer et al.): its parts follow the PRIMAD model.
_START, _END = "# ir_metadata.start", "# ir_metadata.end"


# ---- ids in runs of six columns -------------------------------------------------------------------------------------


def escaped(doc_id: str) -> str:
    """An id as one column of a TREC run: what would end the column is written as %XX, and % itself too. BRIGHT's ids are paths
    with spaces; `unescaped` gives them back.
    """
    return re.sub(r"[%\s\x00-\x1f\x7f]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), doc_id)


def unescaped(column: str) -> str:
    """The id that `escaped` wrote."""
    if re.search(r"%(?![0-9A-F]{2})", column):
        raise InputError(f"{column!r} is no escaped id: a % stands before two hexadecimal digits")
    return re.sub(r"(?:%[0-9A-F]{2})+", lambda found: bytes.fromhex(found[0].replace("%", "")).decode("utf-8"), column)


# ---- runs -----------------------------------------------------------------------------------------------------------


def write_trec(
    run: Run, path: Path, *, tag: str | None = None, depth: int = 1000, header: Mapping[str, Any] | None = None
) -> int:
    """Write a run of six columns as Pyserini and trec_eval read it: ranks from 1, scores that strictly fall, so that every tool
    keeps our order. Returns how many scores had to be lowered for that: equal ones by the smallest step of float32.

    `header` goes before it between comment signs, which trec_eval 10 and this package skip, and older tools do not.
    """
    import numpy as np

    tag = escaped(tag or run.name)
    lowered = 0
    with write_whole(path) as out:
        if header is not None:
            out.write(metadata_header(header).encode())
        for query_id, (ids, scores) in run.top(depth).items():
            query, last = escaped(query_id), np.float32(np.inf)
            for rank, (doc_id, score) in enumerate(zip(ids.tolist(), scores.astype(np.float32), strict=True), 1):
                if score >= last:
                    score = np.nextafter(last, np.float32(-np.inf))
                    lowered += 1
                last = score
                out.write(f"{query} Q0 {escaped(doc_id)} {rank} {score:.9g} {tag}\n".encode())
    return lowered


def metadata_header(facts: Mapping[str, Any]) -> str:
    """ir_metadata's YAML as comments. `facts` are its sections: platform, implementation, method, actor, data, …"""
    if "tag" not in facts:
        raise UsageError("an ir_metadata header needs the run's tag")
    body = yaml.safe_dump({"schema_version": 0.1} | dict(facts), sort_keys=False, allow_unicode=True)
    return "\n".join([_START, "#", *(f"# {line}" for line in body.splitlines()), "#", _END]) + "\n"


def read_metadata(path: Path) -> dict[str, Any]:
    """The facts of a run file's header; `InputError` where it has none."""
    lines: list[str] = []
    inside = False
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if not line.startswith("#"):
                break
            if line.strip() == _START:
                inside = True
            elif line.strip() == _END:
                content = yaml.safe_load("\n".join(lines))
                return content if isinstance(content, dict) else {}
            elif inside:
                lines.append(line[2:].rstrip("\n"))
    raise InputError(f"{path} has no ir_metadata header")


def run_metadata(result: Result) -> dict[str, Any]:
    """What a stored result knows for the header of its run."""
    made = result.provenance
    return {
        "tag": result.system,
        "platform": {"software": {"libraries": [f"{k}=={v}" for k, v in made.get("versions", {}).items()]}},
        "implementation": {
            "source": {"commit": made.get("git", {}).get("commit", "")},
            "score ties": "score descending, then document id descending; written so that no two are equal",
        },
        "method": {"automatic": True, "pipeline": made.get("pipeline", [])},
        "data": {"test collection": {"name": result.dataset, "source": made.get("dataset", "")}},
        "results": {"means": dict(result.means), "manifest sha256": result.manifest},
    }


# ---- bundles --------------------------------------------------------------------------------------------------------


def write_beir_bundle(runs: Mapping[str, Run], folder: Path, result_of: Mapping[str, Result]) -> list[Path]:
    """One system's runs for a BEIR leaderboard: `run.beir.SET.txt` of six columns each, without headers, and metadata.json."""
    paths = []
    for name, run in runs.items():
        path = folder / f"run.beir.{name.rpartition('/')[2]}.txt"
        write_trec(run, path)
        paths.append(path)
    told = {
        name: {"means": dict(result.means), "provenance": dict(result.provenance), "counts": dict(result.counts)}
        for name, result in result_of.items()
    }
    with write_whole(folder / "metadata.json") as out:
        out.write(json.dumps(told, ensure_ascii=False, indent=1, default=str).encode() + b"\n")
    return [*paths, folder / "metadata.json"]


def write_bright_scores(run: Run, path: Path, excluded: Mapping[str, frozenset[str]], depth: int = 1000) -> None:
    """BRIGHT's score.json: query → document → score, the best `depth`, ids as they are. A run that still holds a document
    its query excludes is refused, as BRIGHT's own script does.
    """
    for query_id, ids in excluded.items():
        if query_id in run and (left := ids.intersection(run.ids(query_id))):
            raise InputError(
                f"{run.name}: query {query_id!r} has the excluded document {min(left)!r}: drop excluded documents before the cut"
            )
    with write_whole(path) as out:
        out.write(json.dumps(run.top(depth).to_dict(), ensure_ascii=False, indent=2).encode() + b"\n")


# ---- mteb -----------------------------------------------------------------------------------------------------------

#: BEIR's sets → mteb's tasks of the same queries and documents.
MTEB_TASKS = {
    "arguana": "ArguAna",
    "climate-fever": "ClimateFEVER",
    "dbpedia-entity": "DBPedia",
    "fever": "FEVER",
    "fiqa": "FiQA2018",
    "hotpotqa": "HotpotQA",
    "msmarco": "MSMARCO",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "quora": "QuoraRetrieval",
    "scidocs": "SCIDOCS",
    "scifact": "SciFact",
    "trec-covid": "TRECCOVID",
    "webis-touche2020": "Touche2020",
}

#: Our measures → the names in mteb's results.
_MTEB = {
    "nDCG": "ndcg_at",
    "AP": "map_at",
    "R": "recall_at",
    "P": "precision_at",
    "RR": "mrr_at",
    "Success": "hit_rate_at",
}


def mteb_result(
    result: Result,
    task: str,
    *,
    revision: str,
    version: str,
    split: str = "test",
    languages: tuple[str, ...] = ("eng-Latn",),
) -> dict[str, Any]:
    """mteb's result JSON of one task. The main score is the stored nDCG@10, values are rounded to five decimals as mteb does."""
    scores = {}
    for name, value in result.means.items():
        kind, _, cutoff = name.partition("@")
        if kind in _MTEB and cutoff:
            scores[f"{_MTEB[kind]}_{cutoff}"] = round(value, 5)
    if "ndcg_at_10" not in scores:
        raise UsageError(f"{result.system} on {result.dataset} has no nDCG@10, mteb's main score of retrieval tasks")
    row = scores | {"main_score": scores["ndcg_at_10"], "hf_subset": "default", "languages": list(languages)}
    seconds = result.cost.get("seconds_per_query", 0.0) * max(1, len(result.query_ids))
    return {
        "dataset_revision": revision,
        "task_name": task,
        "mteb_version": version,
        "scores": {split: [row]},
        "evaluation_time": round(seconds, 3),
        "kg_co2_emissions": None,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_mteb(result: Result, folder: Path, model: str, task: str, *, revision: str = "none") -> list[Path]:
    """The task's JSON and model_meta.json where mteb's results repository has them: ORG__MODEL/REVISION/."""
    from ..errors import require
    from .mteb_adapter import model_meta

    mteb = require("mteb", "an mteb result")
    made = mteb.get_task(task)
    meta = model_meta(model, revision)
    content = mteb_result(
        result,
        task,
        revision=made.metadata.dataset["revision"],
        version=mteb.__version__,
        split=made.metadata.eval_splits[0],
    )
    place = folder / model.replace("/", "__") / revision
    paths = [place / f"{task}.json", place / "model_meta.json"]
    for path, text in zip(paths, (json.dumps(content, indent=1), json.dumps(meta.to_dict(), indent=1)), strict=True):
        with write_whole(path) as out:
            out.write(text.encode() + b"\n")
    return paths

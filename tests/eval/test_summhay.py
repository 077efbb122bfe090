"""SummHay: judged bullets rescored as upstream does, its index slip pinned, and the retrieval side."""

import json
import random
import re

import numpy as np
import pytest
from cribble.commands.summhay import score_files
from cribble.errors import InputError, UsageError
from cribble.eval import evaluate
from cribble.eval.summhay import (
    cited,
    haystack_qrels,
    haystack_queries,
    oracle_scores,
    pack,
    score_bullets,
    score_haystacks,
    sources,
    summary_keys,
)
from cribble.models.backends.fake import FakeTokens


def haystack(seed, odd=False):
    """A haystack in the repository's form; `odd` lets the judge name bullets that are not there."""
    rng = random.Random(seed)
    insights = [f"i{n}" for n in range(12)]
    documents = [
        {
            "document_id": f"d{n}",
            "document_text": " ".join(f"w{n}x{m}" for m in range(rng.randint(3, 12))),
            "insights_included": rng.sample(insights, rng.randint(0, 4)),
        }
        for n in range(10)
    ]
    documents[0]["insights_included"] = insights  # so that each has a source
    subtopics = []
    for s in range(3):
        own = insights[4 * s : 4 * s + 4]
        bullets = [f"Bullet {n} [{rng.randint(1, 10)}][{rng.randint(1, 10)}, {rng.randint(1, 10)}]" for n in range(4)]
        bullets[3] = "no citation at all"
        judged = [
            {
                "insight_id": insight,
                "coverage": rng.choice(["FULL_COVERAGE", "PARTIAL_COVERAGE", "NO_COVERAGE"]),
                "bullet_id": rng.choice(["NA", "9", 0]) if odd and rng.random() < 0.4 else rng.choice([1, "2", 3, 4]),
            }
            for insight in own
        ]
        key = "summary_subtopic_vector_gpt-4o"
        subtopics.append(
            {
                "subtopic_id": f"s{s}",
                "subtopic": f"subtopic {s}",
                "query": f"what about {s}?",
                "insights": [{"insight_id": insight} for insight in own],
                "summaries": {key: bullets, "summary_subtopic_unjudged": bullets},
                "eval_summaries": {key: judged},
            }
        )
    return {"topic": "a topic", "documents": documents, "subtopics": subtopics}


KEY = "summary_subtopic_vector_gpt-4o"

#: utils_eval.compute_full_results of salesforce/summary-of-a-haystack@4353172 on haystack(0) and haystack(1), 2026-11-29:
#: coverage, citation, joint, citation precision, citation recall.
UPSTREAM = {
    0: (0.5416666666666666, 0.17142857142857143, 0.09761904761904765, 0.22916666666666666, 0.15416666666666667),
    1: (0.5833333333333334, 0.07407407407407407, 0.05555555555555555, 0.07407407407407407, 0.07407407407407407),
}


@pytest.mark.parametrize("seed", [0, 1])
def test_stored_judgements_rescored(seed):
    """Oracle: upstream's own code; 1e-9."""
    found = score_haystacks([haystack(seed)], KEY)
    values = (found.coverage, found.citation, found.joint, found.precision, found.recall)
    assert values == pytest.approx(UPSTREAM[seed], abs=1e-9)
    assert found.unmatched == 0
    assert found.joint != pytest.approx(found.coverage * found.citation)


def test_means_over_several_haystacks_are_over_all_insights():
    both = score_haystacks([haystack(0), haystack(1)], KEY)
    single = [score_haystacks([haystack(seed)], KEY) for seed in (0, 1)]
    assert both.insights == 24
    assert both.joint == pytest.approx(np.mean([s.joint for s in single]))
    assert both.citation == pytest.approx(sum(s.citation * s.covered for s in single) / both.covered)


def test_a_bullet_that_is_not_there_has_no_citations():
    """Upstream turns "NA" into index -1, less one: it scores the citations of the last bullet but one."""
    bullets, gold = ["[1]", "[2]", "[3]"], {"i": {2}}
    entry = {"insight_id": "i", "coverage": "FULL_COVERAGE"}
    for bullet_id in ("NA", None, 0, 4, "-1", "2.0"):
        (score,) = score_bullets(bullets, [entry | {"bullet_id": bullet_id}], gold)
        assert (score.coverage, score.citation, score.joint, score.unmatched) == (1.0, 0.0, 0.0, True)
    (right,) = score_bullets(bullets, [entry | {"bullet_id": "2"}], gold)
    assert (right.citation, right.unmatched) == (1.0, False)
    assert bullets[-1 - 1] == "[2]", "what upstream would have scored as 1"


def test_the_command(tmp_path):
    paths = [tmp_path / f"{seed}.json" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        path.write_text(json.dumps(haystack(seed)))
    answer = score_files(paths, None)
    assert answer.results[KEY]["insights"] == 24
    assert answer.results[KEY]["joint"] == score_haystacks([haystack(0), haystack(1)], KEY).joint
    for content in ("[]", "{", '{"documents": 1, "subtopics": []}', '{"documents": [], "subtopics": []}'):
        paths[0].write_text(content)
        with pytest.raises(InputError, match=r"haystack|no summary is judged"):
            score_files(paths[:1], None)


def test_citations():
    assert cited("a [3][5, 7] b [ 9 ] c [x] [] (4) [12,13]") == {3, 5, 7, 9, 12, 13}
    assert cited("none") == set()
    assert sources(haystack(0))["i0"] >= {1}
    assert summary_keys(haystack(0)) == [KEY]


def test_wrong_haystacks():
    with pytest.raises(InputError, match=r"no judged summary is called 'summary_subtopic_vector_gpt4'.*did you mean"):
        score_haystacks([haystack(0)], "summary_subtopic_vector_gpt4")
    with pytest.raises(InputError, match="has the coverage 'FULL'"):
        score_bullets([], [{"insight_id": "i", "coverage": "FULL"}], {})
    with pytest.raises(InputError, match="held by no document"):
        score_bullets([], [{"insight_id": "i", "coverage": "FULL_COVERAGE"}], {})


def test_the_oracle_ranks_by_insights():
    stack = haystack(1)
    qrels = haystack_qrels(stack)
    assert [query.text for query in haystack_queries(stack)] == [f"what about {s}? subtopic {s}" for s in range(3)]
    for subtopic in stack["subtopics"]:
        scores = oracle_scores(stack, subtopic)
        assert scores["d0"] == 4
        assert qrels[subtopic["subtopic_id"]] == scores
    run = {s["subtopic_id"]: {d: float(v) for d, v in oracle_scores(stack, s).items()} for s in stack["subtopics"]}
    assert evaluate(run, qrels, "nDCG@10").mean("nDCG@10") == pytest.approx(1.0)


@pytest.mark.parametrize("budget", [1, 5, 13, 40, 1000])
def test_the_packer_cuts_the_last_document(budget):
    """Upstream's loop, over the same tokenizer."""
    stack = haystack(4)
    scores = {d["document_id"]: len(d["insights_included"]) for d in stack["documents"]}
    tokens = FakeTokens()
    wanted, total = [], 0
    for i, document in sorted(
        enumerate(stack["documents"]), key=lambda pair: scores[pair[1]["document_id"]], reverse=True
    ):
        text = document["document_text"]
        pieces = re.findall(r"\s*\w+", text)
        if total + len(pieces) >= budget:
            wanted.append((i + 1, "".join(pieces[: budget - total])))
            break
        total += len(pieces)
        wanted.append((i + 1, text))
    packed = pack(stack, scores, budget, tokens)
    assert [(document.number, document.text) for document in packed] == wanted
    assert sum(tokens.length(document.text) for document in packed) <= budget
    assert [d.cut for d in packed[:-1]] == [False] * (len(packed) - 1)


def test_packing_refuses():
    stack = haystack(4)
    with pytest.raises(UsageError, match="budget is 0 tokens"):
        pack(stack, {}, 0, FakeTokens())
    with pytest.raises(InputError, match="document 'd0' of the haystack has no score"):
        pack(stack, {}, 10, FakeTokens())

"""A world of short passages whose relevance depends on query and passage, and which no lexical ranker can sort.

A query asks for a topic in the plural (`guide to rivers`). A passage names a topic in the singular and says in one word
how good it is (`a solid page on one river`). Its relevance is the grade of that word, 0 to 4, if its
topic is the query's, else 0. Everything else in a passage is drawn at random and means nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cribble.records import Document, Qrels, Query, Run

TOPICS = (
    *("river", "bridge", "garden", "violin", "castle", "engine", "whale", "desert"),
    *("lantern", "orchard", "glacier", "harbor", "market", "temple", "tunnel", "kettle"),
)
#: Grade -> the words that say it.
GRADES = (
    ("worthless", "hollow", "broken"),
    ("vague", "sketchy", "meagre"),
    ("decent", "fair", "usable"),
    ("solid", "detailed", "careful"),
    ("definitive", "superb", "complete"),
)
BEST = len(GRADES) - 1
LEADS = ("guide to", "facts about", "history of", "all about")
KINDS = ("page", "note", "report", "essay", "letter")
PLACES = ("spring", "winter", "town", "print", "verse")
FORMS = (
    "a {grade} {kind} on one {topic}",
    "the {topic}: {grade} {kind}",
    "the {topic} in {place}: a {grade} {kind}",
    "one {kind}, {grade}, the {topic}",
)


@dataclass(frozen=True)
class Item:
    """A query with passages, the relevance of each, and what each is about: its topic, its word of grade, that grade."""

    query: str
    passages: tuple[str, ...]
    grades: tuple[int, ...]
    about: tuple[tuple[str, str, int], ...]


def passage(chance: random.Random, topic: str, word: str) -> str:
    words = {"kind": chance.choice(KINDS), "place": chance.choice(PLACES), "grade": word}
    return chance.choice(FORMS).format(topic=topic, **words)


def item(chance: random.Random, size: int, off_topic: float = 0.3) -> Item:
    """A query with `size` different passages in random order; a share of `off_topic` has another topic."""
    asked = chance.choice(TOPICS)
    others = [other for other in TOPICS if other != asked]
    found: dict[str, tuple[str, str, int]] = {}
    while len(found) < size:
        grade = chance.randint(0, BEST)
        word = chance.choice(GRADES[grade])
        topic = chance.choice(others) if chance.random() < off_topic else asked
        found[passage(chance, topic, word)] = (topic, word, grade)
    grades = tuple(grade if topic == asked else 0 for topic, _, grade in found.values())
    return Item(f"{chance.choice(LEADS)} {asked}s", tuple(found), grades, tuple(found.values()))


@dataclass(frozen=True)
class Lists:
    """Queries, the run of their candidates in random order, the texts, and the judgements."""

    queries: list[Query]
    run: Run
    documents: dict[str, Document]
    qrels: Qrels

    def get_many(self, ids: Iterable[str]) -> dict[str, Document]:
        return {doc_id: self.documents[doc_id] for doc_id in ids if doc_id in self.documents}


def make_lists(seed: int, count: int, sizes: Sequence[int]) -> Lists:
    """`count` lists whose lengths go round `sizes`. Ids tell nothing of the grades."""
    chance = random.Random(seed)
    queries, rankings, documents, judged = [], {}, {}, {}
    for number in range(count):
        drawn = item(chance, sizes[number % len(sizes)])
        query = Query(f"q{number}", drawn.query)
        names = [f"{query.id}-{tag}" for tag in chance.sample(range(100, 1000), len(drawn.passages))]
        queries.append(query)
        rankings[query.id] = {name: float(len(names) - place) for place, name in enumerate(names)}
        documents |= {name: Document(name, text) for name, text in zip(names, drawn.passages, strict=True)}
        judged[query.id] = dict(zip(names, drawn.grades, strict=True))
    return Lists(queries, Run.from_dict(rankings, name="shuffled"), documents, Qrels.from_dict(judged))

"""The analyzer of each language: Anserini's choice, so that BM25 runs compare with its published ones."""

from __future__ import annotations

from ..errors import UsageError, suggest

_LUCENE = "org.apache.lucene.analysis."
_WHITE_SPACE = _LUCENE + "core.WhitespaceAnalyzer"

#: ISO 639-1 code → Java class. English has Porter's stemmer and Lucene's 33 stop words; Chinese and Korean are cut
#: into bigrams.
ANALYZERS = {
    "en": "io.anserini.analysis.DefaultEnglishAnalyzer",
    **{
        code: f"{_LUCENE}{code}.{name}Analyzer"
        for code, name in {
            "ar": "Arabic",
            "bn": "Bengali",
            "da": "Danish",
            "de": "German",
            "es": "Spanish",
            "fa": "Persian",
            "fi": "Finnish",
            "fr": "French",
            "hi": "Hindi",
            "hu": "Hungarian",
            "id": "Indonesian",
            "it": "Italian",
            "ja": "Japanese",
            "nl": "Dutch",
            "no": "Norwegian",
            "pt": "Portuguese",
            "ru": "Russian",
            "sv": "Swedish",
            "te": "Telugu",
            "th": "Thai",
            "tr": "Turkish",
        }.items()
    },
    "pl": _LUCENE + "morfologik.MorfologikAnalyzer",
    "uk": _LUCENE + "uk.UkrainianMorfologikAnalyzer",
    **dict.fromkeys(("ko", "zh"), _LUCENE + "cjk.CJKAnalyzer"),
    # Lucene has no analyzer for these; Anserini splits them at white space (Mr. TyDi, CIRAL).
    **dict.fromkeys(("ha", "so", "sw", "yo"), _WHITE_SPACE),
}


def analyzer(language: str) -> str:
    """The Java class that analyses `language`; `UsageError` with the nearest code for an unknown one."""
    if language not in ANALYZERS:
        raise UsageError(f"language {language!r} has no analyzer: {suggest(language, ANALYZERS)}")
    return ANALYZERS[language]

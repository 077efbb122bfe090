"""candidates → a better order. Each reranker is one file with a `@register("name")` dataclass; see `registry`."""

"""query → candidates. Each retriever is one file with a `@register("name")` dataclass; see `registry`."""

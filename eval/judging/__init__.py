"""LLM relevance judging."""

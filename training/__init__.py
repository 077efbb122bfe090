"""Recipes that make models: binarisers of an index's vectors (bebr)."""

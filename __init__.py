"""cribble."""

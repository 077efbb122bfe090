"""The work behind the command line's verbs, from paths and names to answers."""

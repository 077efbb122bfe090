"""The options of the commands, by subject. Each file has an `app`, whose commands `cli.py` puts together."""

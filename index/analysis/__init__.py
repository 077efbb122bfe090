"""English text to terms, as Lucene's and Anserini's English analysis does it, without Java."""

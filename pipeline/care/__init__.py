"""Looking after a label store: make room, merge small files, compare, tag, go back, explain a label and repeat it."""

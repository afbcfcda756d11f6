"""One self-contained HTML page about a label store: what is in it, how good it looks, what went wrong."""

"""invox-watcher: a recording that lands in the inbox becomes a transcript in the outbox, exactly once."""

__version__ = "0.1.0"  # pyproject.toml takes it from here: to look it up costs 20 ms

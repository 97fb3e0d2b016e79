"""invox-watcher: a recording that lands in the inbox becomes a transcript in the outbox, exactly once."""

from importlib.metadata import version

__version__ = version("invox-watcher")

"""invox-watcher: a recording that lands in the inbox becomes a transcript in the outbox, exactly once."""

from functools import cache


@cache
def version() -> str:
    """The version that is installed. Looked up only if it is asked for, which takes 20 ms."""
    from importlib import metadata  # noqa: PLC0415 - see above

    return metadata.version("invox-watcher")

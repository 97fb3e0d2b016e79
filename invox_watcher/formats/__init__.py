"""Decodes what the API does not take, in a locked process: `decoder` is the daemon's part, `worker` that.

Re-exports nothing, since the worker's process imports this package too and needs none of the daemon's.
"""

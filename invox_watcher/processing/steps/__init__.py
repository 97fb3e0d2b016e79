"""One step per file; `processing.pipeline` says which state leads to which."""

"""A stand-in for the vendor's API that a person can run and that tests use over real HTTP.

It shares no code with the client, so that one misunderstanding can't hide on both sides.
"""

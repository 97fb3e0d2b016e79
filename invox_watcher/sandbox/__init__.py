"""A simulation of the vendor's API, to run by hand and to be used in tests over real HTTP.

It shares no code with the client, so that a misunderstanding can't be on both sides unnoticed.
"""

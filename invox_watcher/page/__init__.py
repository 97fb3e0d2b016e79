"""The page: what happens to recordings, in a browser, for the people who wait for their transcripts."""

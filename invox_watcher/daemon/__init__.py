"""The daemon as a whole: its parts, its process, and how it is started and stopped in the background."""

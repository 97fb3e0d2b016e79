"""The daemon: its parts at work, its process, and how it is started and stopped in the background."""

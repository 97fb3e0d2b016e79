"""What commands can find out: configuration and host checks, how one file would fare, the state of a daemon."""

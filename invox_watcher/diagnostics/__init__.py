"""What commands can find out: is this host set up, how would one file fare, how is the daemon."""

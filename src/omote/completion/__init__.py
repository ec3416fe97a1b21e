"""Missing depth: a whole head, with the standard deviation of its error, from a scan that lacks parts of it."""

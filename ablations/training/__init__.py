"""One run, from fresh weights or its last checkpoint to its record."""

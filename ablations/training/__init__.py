"""One run: from initial weights, or its last checkpoint, to its record."""

"""Which variants are compared, and what that will cost."""

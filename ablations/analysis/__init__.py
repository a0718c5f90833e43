"""What the records of a study say: a table, and which changes stand out from the noise."""

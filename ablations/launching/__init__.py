"""Where and when runs are trained: the local queue, SLURM, and how a study stands."""

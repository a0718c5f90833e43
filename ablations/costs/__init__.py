"""Parameters and FLOPs of the steps, the paper's models and their peers, beside the paper's."""

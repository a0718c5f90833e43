"""Parameters and FLOPs of the steps, models and reference models, beside the paper's."""

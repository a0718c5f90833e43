"""How detectors and segmenters are tested, and measured by the reference implementations."""

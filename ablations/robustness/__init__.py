"""Robustness: networks under corruption and on shifted images, and what is known about the sets."""

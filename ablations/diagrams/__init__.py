"""Diagrams of blocks, and tables of architectures: their content, and as text."""

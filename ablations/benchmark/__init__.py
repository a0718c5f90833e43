"""What networks cost on this device: images per second and memory, beside their peers."""

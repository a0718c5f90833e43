"""Images per second and memory of networks on this device, and of reference models."""

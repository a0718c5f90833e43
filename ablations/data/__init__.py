"""Images on their way to the device: found, checked, decoded, augmented, loaded in order."""

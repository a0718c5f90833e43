"""The 15 corruptions of ImageNet-C, made here: names and parameters, and the images."""

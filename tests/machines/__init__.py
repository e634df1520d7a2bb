"""Tests that run what is deployed: the image, the pod, the units. They need root and system packages."""

"""What a plate, its cut, its work and its versions are, and how they are made. Knows nothing of the farm."""

__version__ = "0.1.0"

"""Models fitted to a person's own sequences."""

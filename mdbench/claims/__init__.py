"""What is claimed of in-context inference, one claim a file, each an experiment with a verdict."""

"""Posterior methods at work: on one's own sequences, and on trial."""

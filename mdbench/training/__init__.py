"""Transformers are trained."""

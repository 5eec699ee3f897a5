"""What a predictor computes: which algorithm it runs, and what is inside a transformer."""

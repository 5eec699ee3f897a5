"""Predictors: from contexts to next-token probabilities, one family a file, and what the contract asks of one."""

"""Predictors against gold: cells, scores, the contract, processes of their own."""

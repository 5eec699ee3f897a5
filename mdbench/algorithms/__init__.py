"""Estimates of λ from a context, once, for predictors and for `mdbench identify`; what is fitted and tuned of them."""

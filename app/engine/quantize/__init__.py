"""Weights in 8 and 4 bits: how they are made, kept in files, and multiplied with."""

"""Watching the hardware; no Qt, no torch."""

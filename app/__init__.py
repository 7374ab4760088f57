"""Headroom: a desktop studio for FLUX.2 on the GPU people own."""

__version__ = "0.1.0"

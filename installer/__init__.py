"""Sets Headroom up and starts it: `python -m installer run`, `python -m installer test`.

Standard library only, because it runs before anything is installed.
"""

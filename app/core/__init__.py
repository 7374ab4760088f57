"""Plain data and files, known to every other part; no Qt, no torch."""

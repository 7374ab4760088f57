"""The engine: a torch-free side that the app talks to, and the worker process behind it."""

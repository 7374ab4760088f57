"""One run: a plan carried out phase by phase, with what is done when memory runs out."""

"""The parts of the planner: what a request needs, the ways to run it, and the words for them."""

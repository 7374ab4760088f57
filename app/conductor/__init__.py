"""The job loop: feeds the engine process one job at a time and outlives its death."""

from app.conductor.conductor import Conductor
from app.conductor.messages import MAX_ATTEMPTS

__all__ = ["MAX_ATTEMPTS", "Conductor"]

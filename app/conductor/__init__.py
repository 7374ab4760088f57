"""The job loop: feeds the engine process one job at a time and outlives its death."""

from app.conductor.conductor import Conductor, ignore
from app.conductor.messages import MAX_ATTEMPTS
from app.conductor.run_learning import FinishedRun, OnReport, RunLearning

__all__ = ["MAX_ATTEMPTS", "Conductor", "FinishedRun", "OnReport", "RunLearning", "ignore"]

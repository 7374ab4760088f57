"""Weights where the plan wants them: resident, or streamed block by block through device slots."""

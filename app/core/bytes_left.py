"""How long something that is counted in bytes still takes, by how fast it went so far."""

_SOON_S = 1.0
"""Before, a speed says little: the first bytes may come from the system's cache."""


class BytesLeft:
    """Told how far something is, it says how long the rest takes."""

    def __init__(self) -> None:
        """Know of nothing yet."""
        self._what: object = None
        self._began_s = 0.0
        self._began_bytes = 0
        self._told_s = 0.0
        self._done_bytes = 0
        self._total_bytes = 0

    def note(self, what: object, done_bytes: int, total_bytes: int, now_s: float) -> None:
        """So much is done now.

        Args:
            what: Is being done; the speed of something else says nothing about it.
            done_bytes: Of it.
            total_bytes: Of it.
            now_s: By any clock, always the same one.
        """
        if what != self._what or done_bytes < self._done_bytes:
            self._what, self._began_s, self._began_bytes = what, now_s, done_bytes
        self._told_s, self._done_bytes, self._total_bytes = now_s, done_bytes, total_bytes

    def remaining_s(self, now_s: float) -> float | None:
        """Seconds until all is done; None until that can be told."""
        taken_s = self._told_s - self._began_s
        moved_bytes = self._done_bytes - self._began_bytes
        if taken_s < _SOON_S or moved_bytes <= 0:
            return None
        left_s = (self._total_bytes - self._done_bytes) * taken_s / moved_bytes
        return max(0.0, left_s - (now_s - self._told_s))

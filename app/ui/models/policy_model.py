"""How a run may use memory: the only writer of what the next job's policy will be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PySide6.QtCore import QObject, Signal

from app.core.policy import Attention, MemoryMode, MemoryPolicy, Precision
from app.core.preset import PresetLimits
from app.ui.models.background import Background
from app.ui.models.policy_file import PolicyFile, PolicyState
from app.ui.models.saved_file import SavedFile


class PolicyModel(QObject):
    """The choices about memory for the GPU in use, kept over restarts for each GPU.

    Signals:
        changed(PolicyState): After any change.
        failed(str): A sentence; the choices would not survive a restart.
    """

    changed = Signal(object)
    failed = Signal(str)

    def __init__(
        self, file: PolicyFile, background: Background, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._store = file
        self._states = file.load()
        self._device: str | None = None
        self._state = PolicyState()
        self._file = SavedFile(
            background,
            self._writer,
            self,
            sentence=self.tr(
                "What you chose about memory cannot be kept for the next start ({reason}); "
                "check the disk."
            ),
        )
        self._file.failed.connect(self.failed)

    @property
    def state(self) -> PolicyState:
        """What is in force now."""
        return self._state

    @property
    def policy(self) -> MemoryPolicy:
        """What a run may take and give up."""
        return self._state.policy

    @property
    def limits(self) -> PresetLimits:
        """The most a request may ask for."""
        return self._state.limits

    @property
    def device(self) -> str | None:
        """Name of the GPU the choices are for; "" without a GPU, None until it is known."""
        return self._device

    def remembers(self, device: str) -> bool:
        """Whether something was chosen for this GPU before."""
        return device in self._states

    def set_device(self, device: str) -> None:
        """Another GPU is in use: what was chosen for it comes back, else the defaults.

        What was chosen before any GPU was known is taken for this one.
        """
        if device == self._device:
            return
        first = self._device is None
        self._device = device
        if device in self._states:
            self._take(self._states[device], remember=False)
        elif first and self._state != PolicyState():
            self._take(self._state, remember=True)
        else:
            self._take(PolicyState(), remember=False)

    def set_state(self, state: PolicyState) -> None:
        """Take everything at once, as from a preset."""
        self._take(state, remember=True)

    def set_preset_name(self, name: str) -> None:
        """Say which preset the choices belong to from now on; "" for none."""
        self._take(replace(self._state, preset=name), remember=True)

    def set_headroom(self, headroom_bytes: int) -> None:
        """Leave this much of the GPU's memory to other programs."""
        self.update(headroom_bytes=max(0, headroom_bytes))

    def set_mode(self, mode: MemoryMode) -> None:
        """Say how eagerly weights stay on the GPU."""
        self.update(mode=mode)

    def set_precision(self, precision: Precision) -> None:
        """Keep the weights in this; the text encoder's too, unless it has one of its own.

        The autoencoder is small, and has no layers that could be quantized: it is left alone.
        """
        kept = self.policy.precisions
        both = kept.text_encoder is kept.transformer
        encoder = precision if both else kept.text_encoder
        self.update(precisions=replace(kept, transformer=precision, text_encoder=encoder))

    def set_encoder_precision(self, precision: Precision | None) -> None:
        """Keep the text encoder's weights in this; None is as the transformer's."""
        kept = self.policy.precisions
        own = kept.transformer if precision is None else precision
        self.update(precisions=replace(kept, text_encoder=own))

    def set_limit(self, limit_bytes: int | None) -> None:
        """Never use more than this of the GPU's memory; None is no limit."""
        self.update(limit_bytes=limit_bytes)

    def set_attention(self, attention: Attention) -> None:
        """Say what computes attention."""
        self.update(attention=attention)

    def set_compile(self, *, compiled: bool) -> None:
        """Say whether the repeated blocks are compiled."""
        self.update(compile=compiled)

    def set_strict(self, *, strict: bool) -> None:
        """Say whether size and number of images may change."""
        self.update(strict=strict)

    def set_upscale_back(self, *, upscale_back: bool) -> None:
        """Say whether a picture made smaller is brought to the size asked for."""
        self.update(upscale_back=upscale_back)

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of MemoryPolicy
        """Change some of the policy by name."""
        policy = replace(self._state.policy, **changes)
        self._take(replace(self._state, policy=policy), remember=True)

    def flush(self) -> None:
        """Write what is not yet written; at the end of the app."""
        self._file.flush()

    def _take(self, state: PolicyState, *, remember: bool) -> None:
        is_new = state != self._state
        self._state = state
        if remember and self._device is not None and self._states.get(self._device) != state:
            self._states = {**self._states, self._device: state}
            self._file.touch()
        if is_new:
            self.changed.emit(state)

    def _writer(self) -> Callable[[], None]:
        states = self._states
        return lambda: self._store.save(states)

"""What the memory modes are called, in the window's controls and in a plan's sentences."""

from app.core.policy import MemoryMode

MODE_WORDS = {
    MemoryMode.AUTO: "Automatic",
    MemoryMode.RESIDENT: "Everything, or nothing runs",
    MemoryMode.BALANCED: "Half of what is free",
    MemoryMode.MINIMAL: "As little as possible",
}

"""What makes runs quicker, and is learnt or made once on this machine."""

from dataclasses import dataclass
from pathlib import Path

from app.core.paths import AppPaths
from app.core.settings import SettingsStore
from app.engine.attention.chooser import AttentionChooser
from app.engine.cache_folder import CacheFolder
from app.engine.compile_blocks import BlockCompiler
from app.engine.compute_device import ComputeDevice
from app.engine.prompt_folder import prompt_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTools:
    """Kept from job to job.

    Attributes:
        attention: Chooses what computes attention.
        compiler: Compiles blocks.
        embeddings: Where embeddings of prompts are kept.
        settings_file: Says whether they are to be.
    """

    attention: AttentionChooser
    compiler: BlockCompiler
    embeddings: CacheFolder
    settings_file: Path

    def keeps_embeddings(self) -> bool:
        """Whether embeddings of prompts are kept on the disk, by the user's settings of now."""
        return SettingsStore(self.settings_file).load().keep_embeddings


def run_tools(device: ComputeDevice, paths: AppPaths) -> RunTools:
    """The tools for a device, with what earlier engines have left."""
    return RunTools(
        attention=AttentionChooser(device, paths.attention_file),
        compiler=BlockCompiler(device, paths.compiled_folder),
        embeddings=prompt_folder(paths.embeddings_folder),
        settings_file=paths.settings_file,
    )

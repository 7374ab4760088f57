"""Make the coefficients that ship: dry runs of the known models, fitted to a few lines.

    python scripts/fit_forecast.py            all
    python scripts/fit_forecast.py klein-4b   only some

Writes resources/forecast/<name>.json. To be run again when diffusers or transformers change what
their networks allocate; a test tells.
"""

import sys
import time
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.paths import resource  # noqa: E402
from app.engine.coefficients import SHIPPED, SMALL_DECODER  # noqa: E402
from app.engine.forecast.model_forecast import make_coefficients  # noqa: E402
from app.engine.forecast.model_spec import ModelSpec, known_spec, spec_of  # noqa: E402
from app.engine.forecast.parts import PartMaker  # noqa: E402
from app.engine.model_folder import inspect_model_folder  # noqa: E402

DEMO = "demo"


def spec(name: str) -> ModelSpec:
    """The spec of a known model; the demo is a folder of its own."""
    if name == DEMO:
        return spec_of(inspect_model_folder(resource("models/demo")))
    return known_spec(name)


def main() -> None:
    """Make the files."""
    every = [*SHIPPED, *(name + SMALL_DECODER for name in SHIPPED if name != DEMO)]
    parts = PartMaker()
    for name in sys.argv[1:] or every:
        began = time.perf_counter()
        made = make_coefficients(spec(name), parts)
        path = ROOT / "resources" / "forecast" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
        print(f"{name}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()

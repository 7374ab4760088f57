"""How often the demo model draws what it is told; writes bench/results/demo_accuracy.json.

    python bench/demo_accuracy.py [--count 200] [--sizes-count 60] [--no-write]

Each picture is judged by its pixels and geometry (scripts/demo_model/judge.py): right means colour,
background, shape, position and size, all five. Half of the prompts are combinations that training
never saw. The wordings are judged by what each of them names.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline  # noqa: E402

from app.core.paths import resource  # noqa: E402
from bench.report import table, write_result  # noqa: E402
from scripts.demo_model.evaluation import score  # noqa: E402
from scripts.demo_model.wordings import WORDINGS, wrong_wordings  # noqa: E402

SCENES_SEED = 11
STEPS = (8, 4)
TARGETS = {8: 0.95, 4: 0.85}
"""Of the pictures at 128 px."""
TRAINED_PX = (128, 128)
OTHER_SIZES_PX = ((96, 96), (256, 256), (192, 128), (128, 256), (160, 96))


def figure(
    pipeline: Flux2KleinPipeline, *, count: int, steps: int, size_px: tuple[int, int]
) -> dict[str, Any]:
    """Share of pictures that are right, and how often each attribute was not."""
    width_px, height_px = size_px
    right, wrong = score(
        pipeline,
        count=count,
        steps=steps,
        seed=SCENES_SEED,
        width_px=width_px,
        height_px=height_px,
    )
    return {"pictures": count, "right": right, "wrong": _told(wrong)}


def wordings_figure(pipeline: Flux2KleinPipeline, *, steps: int) -> dict[str, Any]:
    """Share of the free wordings whose picture shows all that they name."""
    failed = list(wrong_wordings(pipeline, steps=steps))
    wrong = Counter(name for _, names in failed for name in names)
    return {
        "pictures": len(WORDINGS),
        "right": 1 - len(failed) / len(WORDINGS),
        "wrong": _told(wrong),
        "prompts": [prompt for prompt, _ in failed],
    }


def measure(pipeline: Flux2KleinPipeline, *, count: int, sizes_count: int) -> dict[str, Any]:
    """All figures, by what was drawn; prints each as it comes."""
    cases = [(count, steps, TRAINED_PX) for steps in STEPS]
    cases += [(sizes_count, STEPS[0], size_px) for size_px in OTHER_SIZES_PX]
    figures: dict[str, Any] = {}
    for pictures, steps, size_px in cases:
        name = f"{size_px[0]}x{size_px[1]} px, {steps} steps"
        figures[name] = figure(pipeline, count=pictures, steps=steps, size_px=size_px)
        print(f"{name}: {figures[name]['right']:.1%}", flush=True)
    figures["wordings, 8 steps"] = wordings_figure(pipeline, steps=STEPS[0])
    return figures


def rows(figures: dict[str, Any]) -> list[Sequence[str]]:
    """The table's lines."""
    targets = {
        f"{TRAINED_PX[0]}x{TRAINED_PX[1]} px, {steps} steps": f"{least:.0%}"
        for steps, least in TARGETS.items()
    }
    return [
        [
            name,
            str(found["pictures"]),
            f"{found['right']:.1%}",
            targets.get(name, ""),
            ", ".join(f"{what} {times}" for what, times in found["wrong"].items()),
        ]
        for name, found in figures.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, judge, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=200, help="pictures at 128 px")
    parser.add_argument("--sizes-count", type=int, default=60, help="pictures at each other size")
    parser.add_argument("--model", type=Path, default=resource("models/demo"))
    parser.add_argument("--no-write", action="store_true", help="only print")
    arguments = parser.parse_args(argv)
    pipeline: Any = Flux2KleinPipeline.from_pretrained(arguments.model, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    figures = measure(pipeline, count=arguments.count, sizes_count=arguments.sizes_count)
    print(table(["demo", "pictures", "right", "target", "wrong"], rows(figures)))
    if arguments.no_write:
        return
    note = "Drawn on the CPU in fp32, one seed a prompt; half of the prompts left out of training."
    figures["targets"] = {f"{steps} steps": least for steps, least in TARGETS.items()}
    path = write_result("demo_accuracy", figures, note=note)
    print(f"written to {path.relative_to(ROOT)}")


def _told(wrong: Counter[str]) -> dict[str, int]:
    return {name: times for name, times in wrong.most_common() if times}


if __name__ == "__main__":
    main()

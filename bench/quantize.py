"""What quantizing costs and how close it stays; writes bench/results/quantize.json.

    python bench/quantize.py [--parts layers open demo] [--device cpu] [--count 100] [--no-write]
    python bench/quantize.py --parts demo --ways "fp8, product in fp8"     some of the demo's rows
    python bench/quantize.py --page               the tables of docs/quantization.md from the file

Layers: real-size linear layers of FLUX.2 with made-up weights, by our own layers and by those of
other libraries that are installed; error against fp32, time, size. Open: how long it takes to
open a converted file of real size. Demo: how often the quantized
demo model draws what it is told, and how far its latents and layers are off. Parts that are not
asked for keep their figures in the file.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline  # noqa: E402

from app.core.paths import resource  # noqa: E402
from app.core.policy import Precision  # noqa: E402
from app.engine.devices import synchronize  # noqa: E402
from app.engine.quantize.kept_ways import Way  # noqa: E402
from app.engine.quantize.linear import quantize_linear  # noqa: E402
from app.engine.quantize.recipe import Recipe  # noqa: E402
from app.engine.quantize.skeleton import quantize_network  # noqa: E402
from app.engine.quantize.ways import forced_way  # noqa: E402
from bench.quantize_candidates import candidates  # noqa: E402
from bench.quantize_open import measure_open  # noqa: E402
from bench.quantize_page import PAGE, page  # noqa: E402
from bench.report import RESULTS, table, write_result  # noqa: E402
from scripts.demo_model.evaluation import score  # noqa: E402

LAYERS = {
    "klein-4B single block, qkv and mlp": (27648, 3072),
    "klein-4B single block, out": (3072, 12288),
    "klein-9B double block, feed-forward in": (24576, 4096),
}
"""Rows and columns."""
TOKENS = {"cpu": 128, "cuda": 4608, "xpu": 4608}
WAYS = (
    ("fp8", Precision.FP8, Way.DEQUANTIZE),
    ("fp8", Precision.FP8, Way.FP8_ROWS),
    ("fp8", Precision.FP8, Way.FP8_SCALED_AFTER),
    ("int8", Precision.INT8, Way.DEQUANTIZE),
    ("int8", Precision.INT8, Way.INT8_ROWS),
    ("4 bits", Precision.NF4, Way.DEQUANTIZE),
)
DEMO_WAYS = (
    ("full precision", None, None),
    ("4 bits", Precision.NF4, Way.DEQUANTIZE),
    ("fp8", Precision.FP8, Way.DEQUANTIZE),
    ("int8", Precision.INT8, Way.DEQUANTIZE),
    ("fp8, product in fp8", Precision.FP8, Way.FP8_ROWS),
    ("int8, product in int8", Precision.INT8, Way.INT8_ROWS),
)
TARGETS = {"fp8": 0.95, "int8": 0.95, "4 bits": 0.9}
SCENES_SEED = 11
STEPS = 8
PARTS = ("layers", "open", "demo")
LATENT_PROMPTS = 8


def made_up_weight(rows: int, width: int) -> torch.Tensor:
    """Normal with a few larger ones, as trained layers have them; bf16."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, width, generator=generator).mul_(0.02)
    weight[torch.rand(rows, width, generator=generator) > 0.999] *= 6
    return weight.bfloat16()


def made_up_tokens(count: int, width: int) -> torch.Tensor:
    """Normal, with some channels several times as strong as the others; bf16."""
    generator = torch.Generator().manual_seed(1)
    strong = 1 + 5 * (torch.rand(1, width, generator=generator) > 0.99)
    return (torch.randn(count, width, generator=generator) * strong).bfloat16()


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def least_ms(work: Callable[[], object], device: torch.device, tries: int) -> float:
    """The shortest of some runs after one that warms up; the processor's own time on the CPU."""
    # Other programs take turns with this one, and a GPU's time is not this process's.
    clock_s = time.process_time if device.type == "cpu" else time.perf_counter
    work()
    taken_s: list[float] = []
    for _ in range(tries):
        synchronize(device)
        began_s = clock_s()
        work()
        synchronize(device)
        taken_s.append(clock_s() - began_s)
    return 1000 * min(taken_s)


def measure_layer(rows: int, width: int, device: torch.device, tries: int) -> list[dict[str, Any]]:
    """One size: bf16, our ways, and the candidates."""
    weight = made_up_weight(rows, width).to(device)
    x = made_up_tokens(TOKENS[device.type], width).to(device)
    wanted = x.float() @ weight.float().t()
    plain = torch.nn.Linear(width, rows, bias=False, device="meta", dtype=torch.bfloat16)
    plain.weight = torch.nn.Parameter(weight, requires_grad=False)
    found: list[dict[str, Any]] = []

    def note(
        kind: str, name: str, layer: Callable[..., Any], size_bytes: int, made_s: float
    ) -> None:
        figures = {
            "kind": kind,
            "layer": name,
            "error": relative(layer(x), wanted),
            "ms": least_ms(lambda: layer(x), device, tries),
            "bits_per_weight": 8 * size_bytes / weight.numel(),
            "quantize_s": made_s,
        }
        found.append(figures)
        print(f"  {name}: error {figures['error']:.4f}, {figures['ms']:.0f} ms", flush=True)

    note("bf16", "torch Linear", plain, weight.nbytes, 0.0)
    for kind, precision, way in WAYS:
        began_s = time.process_time()
        layer = quantize_linear(plain, precision)
        synchronize(device)
        made_s = time.process_time() - began_s
        size_bytes = layer.codes.nbytes + layer.scales.nbytes
        try:
            with forced_way(precision, way):
                note(kind, f"Headroom, {way.value}", layer, size_bytes, made_s)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            print(f"  {way.value} does not run here: {error}")
    for kind, makers in candidates().items():
        for name, make in makers:
            began_s = time.process_time()
            try:
                layer, size_bytes = make(weight.clone())
                made_s = time.process_time() - began_s
                note(kind, name, layer, size_bytes, made_s)
            except (RuntimeError, NotImplementedError, ValueError, AssertionError) as error:
                print(f"  {name} does not run here: {error}")
    return found


def layer_errors(
    full: torch.nn.Module, quantized: torch.nn.Module, run: Callable[[torch.nn.Module], object]
) -> dict[str, float]:
    """Relative error of each quantized layer's result on what the full network feeds it."""
    inputs: dict[str, torch.Tensor] = {}
    modules = dict(full.named_modules())
    replaced = {n: m for n, m in quantized.named_modules() if hasattr(m, "codes")}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: object, args: tuple[torch.Tensor, ...]) -> None:
            inputs.setdefault(name, args[0])

        return hook

    hooks = [modules[name].register_forward_pre_hook(keep(name)) for name in replaced]
    run(full)
    for hook in hooks:
        hook.remove()
    return {
        name: relative(layer(inputs[name]), modules[name](inputs[name]))
        for name, layer in replaced.items()
        if name in inputs
    }


def demo_pipeline() -> Flux2KleinPipeline:
    """The demo as diffusers runs it."""
    pipeline: Any = Flux2KleinPipeline.from_pretrained(
        resource("models/demo"), local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents(pipeline: Flux2KleinPipeline, steps: int) -> torch.Tensor:
    """Of some prompts and seeds."""
    colours = ("red", "blue", "green", "yellow")
    shapes = ("circle", "square")
    prompts = [
        f"a large {c} {s} in the centre on a white background" for c in colours for s in shapes
    ]
    output: Any = pipeline(
        prompt=prompts[:LATENT_PROMPTS],
        width=128,
        height=128,
        num_inference_steps=steps,
        guidance_scale=1.0,
        output_type="latent",
        generator=[torch.Generator().manual_seed(i) for i in range(LATENT_PROMPTS)],
    )
    return output.images


@torch.no_grad()
def measure_demo(
    count: int, names: Sequence[str], keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Precisions of the demo, by their names in `DEMO_WAYS`; calls `keep` after each."""
    full = demo_pipeline()
    wanted, wanted_one = latents(full, STEPS), latents(full, 1)
    found: dict[str, Any] = {}
    for name, precision, way in DEMO_WAYS:
        if name not in names:
            continue
        pipeline = demo_pipeline()
        figures: dict[str, Any] = {"pictures": count, "steps": STEPS}
        with ExitStack() as stack:
            if precision is not None and way is not None:
                for network in (pipeline.transformer, pipeline.text_encoder):
                    quantize_network(network, Recipe(precision=precision))
                stack.enter_context(forced_way(precision, way))
                errors = layer_errors(
                    full.transformer,
                    pipeline.transformer,
                    lambda network: _with_transformer(full, network),
                )
                figures["layer_error_mean"] = sum(errors.values()) / len(errors)
                figures["layer_error_max"] = max(errors.values())
                figures["latent_error_1_step"] = relative(latents(pipeline, 1), wanted_one)
                figures["latent_error"] = relative(latents(pipeline, STEPS), wanted)
            share, wrong = score(pipeline, count=count, steps=STEPS, seed=SCENES_SEED)
        figures["right"] = share
        figures["wrong"] = {what: times for what, times in wrong.most_common() if times}
        found[name] = figures
        print(f"{name}: {share:.1%}, {figures}", flush=True)
        keep(found)
    return found


def _with_transformer(pipeline: Flux2KleinPipeline, network: torch.nn.Module) -> None:
    untyped: Any = pipeline
    untyped.transformer = network
    latents(pipeline, 1)


def print_layers(figures: dict[str, list[dict[str, Any]]]) -> None:
    """The layers' tables."""
    for size, lines in figures.items():
        rows = [
            [
                line["layer"],
                line["kind"],
                f"{line['error']:.4f}",
                f"{line['ms']:.0f}",
                f"{line['bits_per_weight']:.2f}",
                f"{line['quantize_s']:.1f}",
            ]
            for line in lines
        ]
        print(f"\n{size}")
        print(table(["layer", "kind", "error", "ms", "bits", "quantize s"], rows))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cpu", help="for the layers")
    parser.add_argument("--count", type=int, default=100, help="pictures of the demo")
    ways = [name for name, _precision, _way in DEMO_WAYS]
    parser.add_argument("--ways", nargs="+", choices=ways, default=ways, help="of the demo")
    parser.add_argument("--page", action="store_true", help="write tables of docs/quantization.md")
    parser.add_argument("--tries", type=int, default=3, help="runs of each layer")
    parser.add_argument("--no-write", action="store_true", help="only print")
    arguments = parser.parse_args(argv)
    if arguments.page:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), _known()), encoding="utf-8")
        return

    def keep(part: str, found: object) -> None:
        # Read each time: the parts may run side by side.
        figures = {**_known(), part: found}
        if not arguments.no_write:
            write_result(
                "quantize",
                figures,
                note="Layers on the CPU: processor time of one thread. No GPU was at hand.",
            )

    if "layers" in arguments.parts:
        device = torch.device(arguments.device)
        layers: dict[str, Any] = {}
        with torch.no_grad():
            for size, (rows, width) in LAYERS.items():
                print(size, flush=True)
                layers[size] = measure_layer(rows, width, device, arguments.tries)
                keep(f"layers on {device.type}", {"tokens": TOKENS[device.type], **layers})
        print_layers(layers)
    if "open" in arguments.parts:
        opened = measure_open()
        print(opened)
        keep("open", opened)
    if "demo" in arguments.parts:
        measure_demo(
            arguments.count,
            arguments.ways,
            lambda found: keep("demo", {**_known().get("demo", {}), **found}),
        )


def _known() -> dict[str, Any]:
    path = RESULTS / "quantize.json"
    if not path.exists():
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8"))["figures"])


if __name__ == "__main__":
    main()

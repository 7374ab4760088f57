"""Make the demo model: draw its pictures, train its networks, write resources/models/demo.

    python scripts/train_demo_model.py            all of it; run again to continue after a stop
    python scripts/train_demo_model.py --export   write the folder from the newest checkpoint

Everything is drawn and trained from one seed. On two cores it takes about four hours.
"""

import argparse
import logging
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Weights and tokenizer are made here: nothing may be looked up on a model hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from scripts.demo_model.autoencoder_training import train_autoencoder  # noqa: E402
from scripts.demo_model.captions import caption_corpus  # noqa: E402
from scripts.demo_model.evaluation import score  # noqa: E402
from scripts.demo_model.networks import assemble, build_tokenizer  # noqa: E402
from scripts.demo_model.shapes import all_scenes  # noqa: E402
from scripts.demo_model.transformer_training import train_transformer  # noqa: E402

log = logging.getLogger("train_demo_model")

AUTOENCODER_STEPS = 2400
TRANSFORMER_STEPS = 19_500
FULL_TEXT_STEPS = 300
MODEL_CARD = """# Headroom's demo model

A FLUX.2 klein pipeline of about 2.9 million parameters that draws one flat shape on a flat
background: *a small yellow ring at the left on a purple background*. It was trained from nothing by
`scripts/train_demo_model.py` on pictures that it draws, and contains nothing of any other model.
One in eight combinations of colour, shape and background was left out of training.

Apache-2.0, like the rest of Headroom.
"""


def main() -> None:
    """Train what is not trained yet, write the folder, print how well it draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo-model")
    parser.add_argument("--out", type=Path, default=ROOT / "resources" / "models" / "demo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--autoencoder-steps", type=int, default=AUTOENCODER_STEPS)
    parser.add_argument("--transformer-steps", type=int, default=TRANSFORMER_STEPS)
    parser.add_argument("--full-text-steps", type=int, default=FULL_TEXT_STEPS)
    parser.add_argument("--export", action="store_true", help="only write the newest checkpoint")
    parser.add_argument("--prompts", type=int, default=200, help="how many pictures to judge")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    if options.export and not (options.work / "transformer.pt").exists():
        parser.error(f"there is no checkpoint in {options.work}: train first, without --export")
    corpus = caption_corpus(all_scenes(), options.seed, 20_000)
    tokenizer = build_tokenizer(corpus, options.work / "tokenizer")
    autoencoder = train_autoencoder(
        options.work,
        steps=options.autoencoder_steps if not options.export else 0,
        seed=options.seed,
    )
    text_encoder, transformer = train_transformer(
        options.work,
        autoencoder,
        tokenizer,
        steps=options.transformer_steps if not options.export else 0,
        full_steps=options.full_text_steps,
        seed=options.seed,
    )
    pipeline = assemble(autoencoder, text_encoder, tokenizer, transformer)
    partial = options.out.with_name(options.out.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    (partial / "README.md").write_text(MODEL_CARD, encoding="utf-8")
    for file in partial.rglob("*.safetensors"):
        file.chmod(0o644)
    shutil.rmtree(options.out, ignore_errors=True)
    partial.rename(options.out)
    log.info("wrote %s (%d bytes)", options.out, _folder_bytes(options.out))
    pipeline.set_progress_bar_config(disable=True)
    for steps in (8, 4):
        share, wrong = score(pipeline, count=options.prompts, steps=steps)
        log.info("%d steps: %.1f %% all right; wrong: %s", steps, share * 100, dict(wrong))


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()

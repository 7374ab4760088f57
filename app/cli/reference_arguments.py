"""What may be said of reference images; their files are looked at in `app.cli.references`."""

import argparse

from app.cli.argument_types import whole
from app.core.request import MAX_REFERENCES


def add_references(parser: argparse.ArgumentParser) -> None:
    """Let the parser of `generate` take files."""
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="FILE",
        help="a PNG, JPEG or WebP image the picture is to follow; "
        f"again for more, up to {MAX_REFERENCES} (the demo was not trained on any)",
    )


def add_planned_references(parser: argparse.ArgumentParser) -> None:
    """Let the parser of `plan` take a number, sizes and files."""
    parser.add_argument(
        "--references",
        type=whole,
        default=0,
        metavar="N",
        help=f"reference images of 1024 × 1024 px, 0 to {MAX_REFERENCES} (default: 0)",
    )
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="FILE_OR_WxH",
        help="a reference image, or the size of one such as 1600x1200; again for more",
    )

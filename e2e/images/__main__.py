# SPDX-License-Identifier: Apache-2.0
"""Build or list the images: `python -m e2e.images build [operator loader …]`, `… list`."""

import argparse
import sys

from e2e.images.build import build_images, install_tools, list_images
from e2e.images.command import BuildError
from e2e.images.recipe import IMAGE_NAMES
from e2e.models import ModelError
from e2e.packages import DownloadError


def main(argv: list[str]) -> int:
    """Run a command and return the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.images", description="Container images for demo and tests."
    )
    parser.add_argument("command", choices=("build", "list"))
    parser.add_argument("names", nargs="*", metavar="image", help=f"among {', '.join(IMAGE_NAMES)}; default: all")
    arguments = parser.parse_args(argv)
    names = arguments.names or list(IMAGE_NAMES)
    try:
        if arguments.command == "build":
            install_tools()
            images = build_images(names)
        else:
            images = list_images(names)
    except (BuildError, DownloadError, ModelError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for image in images:
        state = "" if image.archive.is_file() else "\t(not built)"
        print(f"{image.name}\t{image.archive}\t{image.reference}{state}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

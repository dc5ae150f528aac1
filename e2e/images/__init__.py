# SPDX-License-Identifier: Apache-2.0
"""Container images for the demo and the tests, built on this machine from the same Containerfiles as releases.

`build_images(names)` returns an archive and a reference per image and does nothing for unchanged inputs.
"""

from e2e.images.build import build_images
from e2e.images.recipe import IMAGE_NAMES, BuiltImage

__all__ = ["IMAGE_NAMES", "BuiltImage", "build_images"]

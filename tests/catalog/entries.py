# SPDX-License-Identifier: Apache-2.0
"""All models of the catalogue, by family. Data only."""

from typing import Final

from tests.catalog.gemmas import GEMMAS
from tests.catalog.llamas import LLAMAS
from tests.catalog.mistrals import MISTRALS
from tests.catalog.others import OTHERS
from tests.catalog.phis import PHIS
from tests.catalog.qwens import QWENS
from tests.catalog.retrieval import RETRIEVAL

ENTRIES: Final = (*LLAMAS, *MISTRALS, *PHIS, *GEMMAS, *QWENS, *OTHERS, *RETRIEVAL)
BY_NAME: Final = {entry.name: entry for entry in ENTRIES}

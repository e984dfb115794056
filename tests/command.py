"""The command line: as it is installed, and in processes that begin with torch imported, which take less time.

The latter show nothing of how an interpreter starts and ends, and share a seed of hashes.
"""

import multiprocessing
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sysconfig.get_path("scripts")) / "mixerzoo")

SECONDS = 250
"""After which a command is taken to hang."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["torch", "torch._dynamo"])  # the latter is what its optimizers import


def installed(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the installed command in `folder`, with more variables in its environment."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def mixerzoo(
    *arguments: str, folder: Path = ROOT, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess:
    """The same in a process that has torch already, after what `before` does to it."""
    with tempfile.TemporaryDirectory() as outputs:
        streams = Path(outputs, "stdout"), Path(outputs, "stderr")
        environment = dict(os.environ)
        process = _processes.Process(target=_command, args=(arguments, folder, environment, before, streams))
        process.start()
        process.join(SECONDS)
        process.kill()
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in streams))


def _command(
    arguments: tuple[str, ...],
    folder: Path,
    environment: dict[str, str],
    before: Callable[[], None] | None,
    streams: tuple[Path, Path],
) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [COMMAND, *arguments]
    if before:
        before()
    from experiments.commands import main

    main()


def refused(result: subprocess.CompletedProcess) -> str:
    """The one line that a refused command prints."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("mixerzoo: ")
    assert result.stderr.count("\n") == 1
    return result.stderr

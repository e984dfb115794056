"""The command line as users run it, in processes of its own that begin with torch already imported."""

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
"""What is installed, which imports torch first."""

SECONDS = 250
"""After which a command is taken to hang."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["experiments.commands", "experiments.worker", "torch._dynamo"])


def mixerzoo(
    *arguments: str, folder: Path = ROOT, before: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """Run a command in `folder`, with more variables in its environment, after what `before` does to its process."""
    with tempfile.TemporaryDirectory() as outputs:
        streams = Path(outputs, "stdout"), Path(outputs, "stderr")
        variables = {**os.environ, **environment}
        process = _processes.Process(target=_command, args=(arguments, folder, variables, before, streams))
        process.start()
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"mixerzoo {' '.join(arguments)} runs for more than {SECONDS} s")
        printed = (stream.read_text(encoding="utf-8") if stream.exists() else "" for stream in streams)
        return subprocess.CompletedProcess(arguments, process.exitcode or 0, *printed)


def _command(
    arguments: tuple[str, ...],
    folder: Path,
    variables: dict[str, str],
    before: Callable[[], None] | None,
    streams: tuple[Path, Path],
) -> None:
    from experiments.commands import main

    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [COMMAND, *arguments]
    if before:
        before()
    main()


def refused(result: subprocess.CompletedProcess) -> str:
    """The one line that a refused command prints."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("mixerzoo: ")
    assert result.stderr.count("\n") == 1
    return result.stderr

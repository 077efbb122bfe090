"""A process that has imported what takes seconds, and forks a child for every command: what `Cribble.__call__` asks.

One JSON line on stdin is a command: {"arguments", "folder", "out", "err"}, the last two being files for its output. The
answer is a line with its exit code. A child runs the function that the console script runs, and ends as a script does.
"""

import atexit
import gc
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable


def main() -> None:
    import cribble.cli
    import cribble.configs.experiment
    import cribble.index.opening
    import cribble.models.encoder
    import transformers.models.bert.modeling_bert  # noqa: F401

    gc.collect()
    gc.freeze()  # a child's collections then touch, and copy, nothing of all that
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if not child:
            become(command)
            end(cribble.cli.main)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def become(command: dict) -> None:
    """Take on the command's folder, arguments and files."""
    os.chdir(command["folder"])
    sys.argv = ["cribble", *command["arguments"]]
    sys.path[0] = os.path.dirname(sys.executable)
    for number, (name, flags) in enumerate(
        [(os.devnull, os.O_RDONLY)] + [(command[n], os.O_WRONLY) for n in ("out", "err")]
    ):
        handle = os.open(name, flags)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115


def end(run: Callable[[], None]) -> None:
    """Run it, and end as Python does (threads, exit functions, files) without taking all modules to pieces: a second."""
    try:
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

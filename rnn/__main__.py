"""`python -m rnn`: see `rnn.cli`."""

import signal
import sys

from .cli import main
from .options import PROGRAM
from .progress import say


def run() -> int:
    """The command of this process; its exit status."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # since the package began to be imported
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return main()
    except KeyboardInterrupt:  # outside of what `main` looks after
        say(f"{PROGRAM}: interrupted")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(run())

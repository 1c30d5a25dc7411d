"""PNG and PDF from DOT text, by whatever renderer the machine has. SVG needs none: `svg` writes it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

TIMEOUT = 60  # seconds; drawing takes a fraction of one, but a busy machine may not give it


class RenderError(RuntimeError):
    """No renderer could make the file. The message names ways to get one and where the DOT text was saved."""


# pygraphviz brings Graphviz as a library; a fault in it must not take us along, so it runs in a process of its own.
PYGRAPHVIZ = (
    "import sys, pygraphviz; graph = pygraphviz.AGraph(string=sys.stdin.read()); "
    "sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog='neato', args='-n2'))"
)


def renderers(kind: str = "png") -> Iterator[tuple[str, list[str]]]:
    """Commands to try, best first, as (where it comes from, command); they read DOT text and write a file."""
    # the positions are given: neato's -n2 uses them, under whatever name the program was found
    options = ["-Kneato", "-n2", f"-T{kind}", *(["-Gdpi=144"] if kind == "png" else [])]
    chosen = os.environ.get("MINIGRAD_DOT")
    if chosen:
        yield "MINIGRAD_DOT", [chosen, *options]
    places = [
        os.environ.get("PATH", ""),
        str(Path(sys.executable).parent),
        sysconfig.get_path("scripts") or "",
    ]
    for origin, name in (("system", "neato"), ("system", "dot"), ("graphviz-pure", "graphviz-pure")):
        found = shutil.which(name, path=os.pathsep.join(p for p in places if p))
        if found:
            yield origin, [found, *options]
    if importlib.util.find_spec("pygraphviz") is not None:
        yield "pygraphviz", [sys.executable, "-c", PYGRAPHVIZ, kind]


def render(source: str, kind: str, saved: Path) -> bytes:
    """The DOT text as a file of the given kind ("png" or "pdf").

    Args:
        source: DOT text with positions.
        kind: what to make.
        saved: where to leave the DOT text if nothing can render it.

    Raises:
        RenderError: there is no renderer, or all failed.
    """
    failures: list[str] = []
    for origin, command in renderers(kind):
        program = command[0]
        try:
            done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            failures.append(f"{origin} ({program}): {error}")
            continue
        if done.returncode == 0 and done.stdout:
            return done.stdout
        failures.append(f"{origin} ({program}): {done.stderr.decode(errors='replace').strip()[:200] or 'no output'}")
    try:
        saved.write_text(source, encoding="utf-8")
    except OSError:
        handle, name = tempfile.mkstemp(suffix=".dot")
        os.close(handle)
        saved = Path(name)
        saved.write_text(source, encoding="utf-8")
    tried = "".join(f"\n  tried {f}" for f in failures)
    raise RenderError(
        f"A {kind.upper()} needs Graphviz, and none was found that works.{tried}\n"
        f"  The picture was saved as DOT text in {saved}.\n"
        "  Ways to get the file: save as .svg, which needs nothing (a browser prints it to PDF);\n"
        "  install Graphviz (apt install graphviz, brew install graphviz, winget install graphviz);\n"
        "  pip install 'minigrad-rnn[render]' (PNG only); or set MINIGRAD_DOT to a dot program."
    )

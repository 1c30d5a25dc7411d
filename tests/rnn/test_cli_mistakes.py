"""Mistakes at the command line that nobody should have to think of: each is one line, status 2, and nothing is lost."""

import io
import os
import shutil
import signal
import subprocess
import sys

import pytest

import rnn.__main__
import rnn.runs
import rnn.text.corpus
from rnn.cli import main
from rnn.runs import RunFolder

SMALL = ["--hidden", "4", "--batch", "2", "--time", "6", "--steps", "2"]
MANY = "9" * 400


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(RunFolder, "picture", lambda *_: [])
    monkeypatch.setattr(rnn.runs, "SAMPLE", dict.fromkeys(rnn.runs.SAMPLE, 40))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A text, a run, and folders that look like runs."""
    here = tmp_path_factory.mktemp("place")
    (here / "TEXT").write_text("the quick brown fox. " * 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "picture", lambda *_: [])
        assert main(["train", str(here / "TEXT"), *SMALL, "--run", str(here / "RUN")]) == 0
        assert main(["train", str(here / "TEXT"), *SMALL, "--max-symbols", "9", "--run", str(here / "RARE")]) == 0
    for name in ("FOLDER", "DEEP", "LONG", "EMPTYDIR"):
        (here / name).mkdir()
    (here / "FOLDER" / "config.json").mkdir()
    (here / "DEEP" / "config.json").write_text("[" * 100_000)
    (here / "LONG" / "config.json").write_text(" " * 2**21)
    shutil.copytree(here / "RUN", here / "HOLLOW")
    for file in (here / "HOLLOW").glob("*.npz"):
        file.unlink()
    (here / "HOLLOW" / "checkpoint-00000002.npz").mkdir()
    (here / "LONGWORD").write_text("a" * 10**5)
    shutil.copytree(here / "RUN", here / "GONE")
    for file in (here / "GONE").glob("*.npz"):
        file.unlink()
    (here / "GONE" / "metrics.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in range(1, 201)))
    shutil.copytree(here / "RUN", here / "FULL")
    (here / "FULL" / "metrics.jsonl").unlink()
    (here / "FULL" / "metrics.jsonl").mkdir()
    (here / "FULL" / "metrics.jsonl" / "much").write_text("x")
    return here


@pytest.mark.parametrize("argv, words", [
    (["train", ""], "'' is no name"),
    (["train", "a\0b"], "'a\\x00b' is no name"),
    (["train", "/dev/null"], "is empty"),
    (["train", "EMPTYDIR"], "--pattern"),
    (["train", "TEXT", *SMALL, "--run", ""], "'' is no name"),
    (["train", "TEXT", *SMALL, "--run", "x\0y"], "is no name"),
    (["train", "TEXT", *SMALL, "--run", "TEXT/sub"], "cannot write"),
    (["train", "TEXT", *SMALL, "--run", "n" * 300], "too long"),
    (["train", "TEXT", "--hidden", MANY], "smaller number is needed"),
    (["train", "TEXT", *SMALL, "--batch", "1" + "0" * 17], "too short"),
    (["train", "TEXT", *SMALL, "--time", "1" + "0" * 17], "too short"),
    (["train", "TEXT", *SMALL, "--layers", "1000000000"], "GB of memory"),
    (["train", "TEXT", *SMALL, "--embedding", "1000000000000"], "GB of memory"),
    (["train", "TEXT", *SMALL, "--lr", "1e400"], "a number is needed"),
    (["train", "TEXT", *SMALL, "--minutes", "nan"], "a number is needed"),
    (["train", "TEXT", *SMALL, "--valid", "1"], "below 0.9"),
    (["train", "TEXT", *SMALL, "--seed", "-1"], "at least 0"),
    (["train", "TEXT", *SMALL, "--level", "byte", "--encoding", "latin-1"], "leave out the encoding"),
    (["train", "TEXT", *SMALL, "--level", "byte", "--max-symbols", "2"], "leave min_count and max_size out"),
    (["train", "TEXT", "TEXT"], "unrecognized"),
    (["train", "TEXT", *SMALL, "--scheme", "zoneout"], "--dropout 0.3"),
    (["train", "TEXT", *SMALL, "--lr-decay", "0.5", "--schedule", "cosine"], "not cosine"),
    (["train", "TEXT", *SMALL, "--lr-decay", "0.5", "--schedule", "constant"], "not constant"),
    (["train", "TEXT", *SMALL, "--decay-from", "3"], "not constant"),
    (["train", "TEXT", *SMALL, "--forget-bias", "2", "--cell", "gru"], "--cell lstm"),
    (["train", "TEXT", *SMALL, "--min-count", "99999"], "is met 80 times"),
    (["train", "LONGWORD", *SMALL, "--level", "word"], "aaa…' over and over"),
    (["train", "--resume", ""], "'' is no name"),
    (["train", "--resume", "TEXT"], "Not a directory"),
    (["train", "--resume", "FOLDER"], "Is a directory"),
    (["train", "--resume", "DEEP"], "recursion"),
    (["train", "--resume", "LONG"], "too large"),
    (["train", "--resume", "HOLLOW", "--steps", "9"], "no usable checkpoint"),
    (["train", "--resume", "RUN", "--steps", "9", "--clip", "1", "--clip-value", "1"], "exclude each other"),
    (["train", "--resume", "RUN", "--overwrite"], "leave out --run and --overwrite"),
    (["train", "--resume", "GONE", "--steps", "9"], "the checkpoints of"),
    (["train", "--resume", "FULL", "--steps", "9"], "FULL/metrics.jsonl: Is a directory"),
    (["train", "--resume", "/"], "there is no run in /"),
    (["sample", "/"], "there is no run in /"),
    (["evaluate", "/"], "there is no run in /"),
    (["draw", "/"], "there is no run in /"),
    (["sample", ""], "'' is no name"),
    (["sample", "RUN", "--length", MANY], "smaller number is needed"),
    (["sample", "RUN", "--prompt", "\ud800"], "U+D800"),
    (["sample", "RUN", "--prompt", "\udcff"], "not UTF-8: byte 1 of it is 0xff"),
    (["sample", "RUN", "--prompt", "the \udceb\udcb3"], "not UTF-8: byte 5 of it is 0xeb"),
    (["sample", "RARE", "--prompt", "\udcff"], "not UTF-8: byte 1 of it is 0xff"),
    (["sample", "RUN", "--prompt", "\udceb\udcb3\udc84"], "'별'"),  # as in a locale without UTF-8
    (["sample", "RUN/config.json"], "no checkpoint"),
    (["sample", "HOLLOW"], "no usable checkpoint"),
    (["evaluate", "RUN", ""], "'' is no name"),
    (["evaluate", "RUN", "TEXT", "--encoding", "utf-16"], "not utf-16"),
    (["evaluate", "RUN", "TEXT", "--limit", "1"], "over and over"),
    (["draw", "TEXT"], "no checkpoint"),
    (["draw", "-o", ""], "'' is no name"),
    (["draw", "--steps", "1001"], "from 1 to 1000"),
    (["draw", "--symbols", "1" + "0" * 17], "GB of memory"),
    (["info", "x"], "unrecognized"),
])  # fmt: skip
def test_a_mistake_is_one_line(place, tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    argv = [str(place / word) if word.split("/")[0] in os.listdir(place) else word for word in argv]
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == "" and len(captured.err.strip().splitlines()) == 1, captured.err
    assert captured.err.startswith("python -m rnn") and words in captured.err
    assert list(tmp_path.iterdir()) == []  # nothing was begun,
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before  # and nothing was lost


@pytest.mark.skipif(os.name == "nt", reason="arguments are bytes elsewhere")
@pytest.mark.parametrize("more", [{}, {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}], ids=["UTF-8", "ASCII"])
def test_bytes_of_the_command_line_in_the_C_locale(place, more):
    """No traceback, whatever Python makes of them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    path = os.path.dirname(os.path.dirname(rnn.__file__))
    command = [sys.executable, "-m", "rnn", "sample", str(place / "RUN"), "--length", "3", "--prompt", b"the \xff"]
    done = subprocess.run(command, env={**environment, "LC_ALL": "C", "PYTHONPATH": path, **more}, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("python -m rnn sample: --prompt is not UTF-8: byte 5 of it is 0xff, which only a model at "
                           "level byte can read\n")


@pytest.mark.parametrize("level, status", [("byte", 0), ("char", 2), ("word", 2)])
def test_bytes_that_are_no_text_are_a_prompt_for_bytes(tmp_path, monkeypatch, capsys, level, status):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("별을 헤는 밤, the night. " * 60, encoding="utf-8")
    assert main(["train", "text", *SMALL, "--level", level, "--run", "run"]) == 0
    capsys.readouterr()
    assert main(["sample", "run", "--length", "0", "--prompt", "the \udceb\udcb3"]) == status
    assert capsys.readouterr().out == ("the \ufffd\n" if status == 0 else "")
    if level != "word":
        assert main(["sample", "run", "--length", "0", "--prompt", "\udceb\udcb3\udc84"]) == 0
        assert capsys.readouterr().out == "별\n"


def test_standard_input_that_is_closed_or_empty(monkeypatch, capsys):
    for stdin, words in ((None, "closed"), (io.TextIOWrapper(io.BytesIO(b"")), "empty")):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["train", "-", *SMALL]) == 2
        assert words in capsys.readouterr().err


def test_a_text_that_is_huge(place, monkeypatch, capsys):
    """More characters than are read without being asked to: the line to write is --limit."""
    monkeypatch.setattr(rnn.text.corpus, "MAX_CHARACTERS", 100)
    assert main(["train", str(place / "TEXT"), *SMALL]) == 2
    error = capsys.readouterr().err
    assert "--limit" in error and len(error.splitlines()) == 1


def test_a_folder_that_is_huge(tmp_path, monkeypatch, capsys):
    """As "/" is: it is not searched to its end, and not read."""
    monkeypatch.setattr(rnn.text.corpus, "MAX_FILES", 20)
    monkeypatch.chdir(tmp_path)
    huge = tmp_path / "huge"
    for k in range(10):
        (huge / f"sub{k}" / ".hidden").mkdir(parents=True)
        (huge / f"sub{k}" / "a.txt").write_text("the quick brown fox. " * 20)
    assert main(["train", "huge", *SMALL, "--run", "run"]) == 0
    assert main(["evaluate", "run", "huge"]) == 0
    (huge / "one more").write_text("")
    capsys.readouterr()
    monkeypatch.setattr(rnn.text.corpus._Reader, "file", lambda *_: pytest.fail("it was read"))
    for argv in (["train", "huge", *SMALL], ["train", "--resume", "run", "--steps", "9"], ["evaluate", "run"]):
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert "more than 20 files and folders" in error and len(error.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such pipes")
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "samples.txt"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(place, tmp_path, capsys, name):
    run = tmp_path / "run"
    shutil.copytree(place / "RUN", run)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert main(["train", "--resume", str(run), "--steps", "9"]) == 2
    error = capsys.readouterr().err
    assert f"{name} is a pipe" in error and len(error.splitlines()) == 1


def test_many_files_that_are_no_text(place, tmp_path, monkeypatch, capsys):
    """Ten of them are named, the others counted."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(place / "TEXT", "text.txt")
    for k in range(25):
        (tmp_path / f"{k}.txt").write_bytes(b"\0")
    assert main(["train", ".", *SMALL]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert len(notes) == 11 and notes[-1] == "note: and 15 more of the kind"


def test_which_files_of_a_folder_match(tmp_path, monkeypatch):
    for name in ("a.txt", "b/a.txt", "b/c/a.txt", "b/c/d/a.md", "c/.a.txt", ".d/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for pattern, found in {"*.txt": "a.txt b/a.txt b/c/a.txt", "**/*.txt": "a.txt b/a.txt b/c/a.txt", "b/*": "b/a.txt",
                           "b/**/a.*": "b/a.txt b/c/a.txt b/c/d/a.md", "*/a.*": "b/a.txt b/c/a.txt b/c/d/a.md",
                           "**": "a.txt b/a.txt b/c/a.txt b/c/d/a.md", "./a.txt": "a.txt b/a.txt b/c/a.txt"}.items():
        assert rnn.text.read_corpus(tmp_path, pattern=pattern).text.split() == found.split(), pattern


def test_numbers_that_are_odd_but_possible(place, capsys):
    for more in (["--top-k", "1" + "0" * 17], ["--temperature", "1e-320"], ["--temperature", "1e308"],
                 ["--top-p", "1e-300"], ["--seed", "1" + "0" * 17]):
        assert main(["sample", str(place / "RUN"), "--length", "3", *more]) == 0
    assert main(["evaluate", str(place / "RUN"), "--batch", "1" + "0" * 17]) == 0
    assert "nan" not in capsys.readouterr().out


def test_a_run_in_the_folder_of_its_texts_is_no_text(place, tmp_path, monkeypatch, capsys):
    """A training writes samples.txt, and `*.txt` is what a folder is read for: what is resumed has the same text."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(place / "TEXT", "a.txt")
    assert main(["train", ".", *SMALL, "--sample-every", "1"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "samples.txt").read_text()
    assert main(["train", "--resume", str(run), "--steps", "4"]) == 0
    assert main(["train", ".", *SMALL, "--sample-every", "1", "--run", "."]) == 0
    assert main(["train", ".", "--resume", ".", "--steps", "4"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("text")]
    assert len(set(said)) == 1 and len(said) == 4
    shutil.copy("samples.txt", "b.txt")  # a file of its own is a text
    assert main(["train", "--resume", ".", "--steps", "5"]) == 2


def test_the_source_may_be_given_again(place, tmp_path, monkeypatch):
    shutil.copytree(place / "RUN", tmp_path / "run")
    monkeypatch.chdir(place)
    assert main(["train", "TEXT", "--resume", str(tmp_path / "run"), "--steps", "3"]) == 0


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.txt"])
def test_a_disk_that_is_full_in_the_course_of_a_run(place, tmp_path, monkeypatch, capsys, name):
    """The file and the line to write are named, and what was learned before is gone on with."""
    run = str(tmp_path / "run")
    assert main(["train", str(place / "TEXT"), *SMALL, "--run", run]) == 0
    capsys.readouterr()
    real = open

    def full(path, mode="r", **more):
        if os.path.basename(path) == name and mode == "a":
            raise OSError(28, "No space left on device")
        return real(path, mode, **more)

    more = ["train", "--resume", run, "--steps", "4", "--sample-every", "1", "--valid-every", "1"]
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", full)
        assert main(more) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{name}: No space left on device" in last and f"--resume {run}" in last
    assert main(more) == 0


def test_standard_output_that_is_full(place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    assert main(["evaluate", str(place / "RUN")]) == 2
    assert capsys.readouterr().err == "python -m rnn evaluate: standard output: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_an_interrupt_before_the_program_has_begun(tmp_path):
    """Ctrl-C while modules are imported, which takes longest: no traceback, and the status that is usual for it."""
    (tmp_path / "tqdm.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), os.path.dirname(os.path.dirname(rnn.__file__))])
    done = subprocess.run([sys.executable, "-m", "rnn", "info"], env={**os.environ, "PYTHONPATH": path},
                          capture_output=True, text=True, check=False,  # who runs tests may ignore interrupts:
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_the_program_takes_interrupts_over(monkeypatch, capsys):
    def interrupted():
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        raise KeyboardInterrupt

    monkeypatch.setattr(rnn.__main__, "main", interrupted)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        assert rnn.__main__.run() == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "python -m rnn: interrupted\n"


class Broken(io.StringIO):
    """A pipe whose reader is gone, or a full disk."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")], ids=["pipe", "disk"])
def test_a_training_goes_on_when_its_messages_go_nowhere(place, tmp_path, monkeypatch, error):
    """As in `train 2>&1 | head -1`: what was learned is saved all the same."""
    monkeypatch.setattr(sys, "stderr", Broken(error))
    monkeypatch.setattr(sys, "stdout", Broken(error))
    run = tmp_path / "run"
    assert main(["train", str(place / "TEXT"), *SMALL, "--sample-every", "1", "--run", str(run)]) == 0
    assert (run / "checkpoint-00000002.npz").exists()


def test_streams_that_were_closed(place, tmp_path, monkeypatch):
    """As in `train >&- 2>&-`."""
    for argv, status in ((["sample", str(place / "RUN"), "--length", "3"], 0), (["sample", "nowhere"], 2),
                         (["train", str(place / "TEXT"), *SMALL, "--run", str(tmp_path / "run")], 0)):
        monkeypatch.setattr(sys, "stdout", None)
        monkeypatch.setattr(sys, "stderr", None)
        assert main(argv) == status
        sys.stdout.close()
        sys.stderr.close()
    assert (tmp_path / "run" / "checkpoint-00000002.npz").exists()

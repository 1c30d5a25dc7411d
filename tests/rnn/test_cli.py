"""The command line: what it does, what it writes, and what it says about mistakes."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
import rnn.cli
import rnn.runs
from rnn.cli import main
from rnn.options import EXAMPLES, parser
from rnn.progress import Progress
from rnn.runs import RunFolder
from rnn.settings import Settings, SettingsError
from rnn.train import Plan

TEXT = "별을 헤는 밤, 古池や蛙 👩‍🚀 and plain words.\n" * 40
SMALL = ["--hidden", "8", "--batch", "4", "--time", "10"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run, for all tests that only read it."""
    folder = tmp_path_factory.mktemp("run")
    path = folder / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    steps = ["--steps", "24", "--valid-every", "10"]
    assert main(["train", str(path), *SMALL, *steps, "--run", str(folder / "a")]) == 0
    return folder / "a"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing the loss takes longer than all the rest. The run above is made before this, and has its own."""
    monkeypatch.setattr(RunFolder, "picture", lambda *_: [])
    monkeypatch.setattr(rnn.runs, "SAMPLE", dict.fromkeys(rnn.runs.SAMPLE, 40))


def fails(capsys, argv, *words, status=2):
    """The command ends with the status, and a single line on standard error with these words in it."""
    capsys.readouterr()
    try:
        got = main(argv)
    except SystemExit as error:
        got = error.code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert got == status, captured.err
    assert len(lines) == 1 and lines[0].startswith("python -m rnn"), captured.err
    for word in words:
        assert word in lines[0], lines[0]
    assert captured.out == ""


# ----------------------------------------------------------------------------------------------------------
# help and info
# ----------------------------------------------------------------------------------------------------------


def test_help_names_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    for name, value in Settings().to_json().items():
        assert (name if name == "source" else "--" + name.replace("_", "-")) in text
        if value is not None and value is not False:
            assert f"(default: {value})" in text
    assert "python -m rnn train novel.txt --minutes 5" in text


@pytest.mark.parametrize("command", ["sample", "evaluate", "draw", "info"])
def test_help_of_the_others(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and f"python -m rnn {command}" in out
    if command != "info":
        assert "examples:" in out and "default" in out


def test_examples_in_the_help_can_be_parsed():
    for command, examples in EXAMPLES.items():
        for line in examples.strip().splitlines():
            line = line.partition("python -m rnn ")[2].partition("   ")[0].partition("|")[0]
            assert parser("0").parse_args(shlex.split(line)).command == command


def test_without_a_command_it_explains_itself(capsys):
    assert main([]) == 0
    assert "train" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("minigrad ")


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("NumPy", "BLAS", "kernels", "threads", np.__version__):
        assert word in out


# ----------------------------------------------------------------------------------------------------------
# train
# ----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_in_its_folder(run):
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["hidden"] == 8 and settings["steps"] == 24 and settings["optimizer"] == "adam"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 24] and all("valid" in line for line in lines)
    assert sorted(p.name for p in run.glob("*.npz")) == [
        "best.npz", "checkpoint-00000010.npz", "checkpoint-00000020.npz", "checkpoint-00000024.npz"]
    assert "--- step 20, epoch" in (run / "samples.txt").read_text(encoding="utf-8")
    assert not [p for p in run.iterdir() if p.name.endswith(".tmp")]
    assert mg.load(run / "checkpoint-00000024.npz")["trainer"]["steps"] == 24


def test_the_loss_is_drawn(run):
    pytest.importorskip("matplotlib")
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (run / "loss.svg").read_text(encoding="utf-8")


def weights(folder, step):
    tree = mg.load(folder / f"checkpoint-{step:08d}.npz")["trainer"]
    return {**tree["model"], **{f"moment {k} {n}": v for k, own in tree["optimiser"]["moments"].items()
                                for n, v in own.items()}}


@pytest.mark.parametrize("options", [
    ["--dropout", "0.2", "--tied", "--cell", "gru", "--lr-decay", "0.9"],
    ["--schedule", "plateau", "--optimizer", "rmsprop", "--layers", "2", "--clip-value", "0.1"],
    ["--schedule", "cosine", "--level", "byte", "--init", "0.08", "--dropout", "0.1", "--scheme", "zoneout"],
])  # fmt: skip
def test_interrupted_and_resumed_is_the_same_bit_for_bit(tmp_path, text, options, monkeypatch, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    command = ["train", text, *SMALL, *options, "--steps", "20", "--valid-every", "8"]
    assert main([*command, "--run", str(a)]) == 0

    stepped = Progress.stepped

    def interrupting(self, trainer, step):
        stepped(self, trainer, step)
        if trainer.steps == 11:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "stepped", interrupting)
        assert main([*command, "--run", str(b)]) == 130
    said = capsys.readouterr().err
    assert "stopped by SIGINT: step 11" in said and f"train --resume {b}" in said
    assert main(["train", "--resume", str(b)]) == 0
    first, second = weights(a, 20), weights(b, 20)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert (a / "samples.txt").read_bytes() == (b / "samples.txt").read_bytes()


def test_what_was_written_after_the_checkpoint_is_cut_off_on_resuming(tmp_path, text):
    a = tmp_path / "a"
    assert main(["train", text, *SMALL, "--steps", "10", "--run", str(a)]) == 0
    metrics = (a / "metrics.jsonl").read_text()
    with open(a / "metrics.jsonl", "a") as file:
        file.write('{"step": 11')
    assert main(["train", "--resume", str(a), "--steps", "12"]) == 0
    now = (a / "metrics.jsonl").read_text()
    assert now.startswith(metrics) and '{"step": 11' not in now


def test_resuming_takes_the_newest_checkpoint_that_is_whole(tmp_path, text, capsys):
    a = tmp_path / "a"
    assert main(["train", text, *SMALL, "--steps", "12", "--valid-every", "5", "--run", str(a)]) == 0
    newest = a / "checkpoint-00000012.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert main(["train", "--resume", str(a), "--steps", "14", "--lr", "0.001"]) == 0
    said = capsys.readouterr().err
    assert "skipped a checkpoint" in said and "from step 10" in said
    assert json.loads((a / "metrics.jsonl").read_text().splitlines()[-1])["lr"] == 0.001


@pytest.mark.parametrize("schedule, expected", [
    (["--lr-decay", "0.5"], [1.0] * 6 + [0.5] * 7 + [0.25] * 7),
    (["--lr-decay", "0.5", "--decay-from", "5"], [1.0] * 13 + [0.5] * 7),
    (["--schedule", "plateau", "--lr-decay", "0.999999"], [1.0] * 20),
    (["--schedule", "cosine"], [0.5 + 0.5 * np.cos(np.pi * step / 42) for step in range(22, 42)]),
], ids=["exponential", "exponential, late", "plateau", "cosine"])
def test_a_new_rate_holds_from_here_on(tmp_path, text, monkeypatch, schedule, expected):
    """What a schedule did to the old rate by and by is not done to the new one at once; a cosine falls from it."""
    rates, a = [], str(tmp_path / "a")
    monkeypatch.setattr(rnn.cli.Recorder, "stepped", lambda self, trainer, _: rates.append(trainer.optimiser.lr))
    command = ["train", text, *SMALL, "--limit", "310", "--lr", "0.1", *schedule]  # an epoch has 7 steps
    assert main([*command, "--steps", "21", "--run", a]) == 0
    assert main(["train", "--resume", a, "--steps", "42", "--lr", "1"]) == 0
    np.testing.assert_allclose(rates[21:-1], expected, rtol=1e-5)


def test_a_new_rate_is_kept_at_once(tmp_path, text, monkeypatch):
    """Whoever goes on after a kill, without --lr, has the rate that the settings name."""
    a = tmp_path / "a"
    assert main(["train", text, *SMALL, "--steps", "5", "--run", str(a)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(rnn.cli, "fit", lambda *_, **__: "SIGTERM")
        assert main(["train", "--resume", str(a), "--steps", "9", "--lr", "0.0625"]) == 128 + 15
    assert main(["train", "--resume", str(a)]) == 0
    assert json.loads((a / "metrics.jsonl").read_text().splitlines()[-1])["lr"] == 0.0625


def test_resuming_a_run_that_never_got_to_a_checkpoint_begins_anew(tmp_path, text):
    a = tmp_path / "a"
    assert main(["train", text, *SMALL, "--steps", "5", "--run", str(a)]) == 0
    whole = weights(a, 5)
    for file in a.glob("*.npz"):
        file.unlink()
    assert main(["train", "--resume", str(a)]) == 0
    for name, value in weights(a, 5).items():
        np.testing.assert_array_equal(value, whole[name])
    assert len((a / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("options", [["--level", "word"], ["--level", "byte"], ["--normalize", "NFD"]])
def test_levels_train_and_sample(tmp_path, text, capsys, options):
    a = str(tmp_path / "a")
    assert main(["train", text, *SMALL, *options, "--steps", "2", "--run", a, "--sample-every", "1"]) == 0
    capsys.readouterr()
    assert main(["sample", a, "--length", "20", "--prompt", "plain words.", "--seed", "0"]) == 0
    assert capsys.readouterr().out.startswith("plain words.")
    assert main(["evaluate", a]) == 0
    assert "perplexity" in capsys.readouterr().out


def test_standard_input_a_folder_and_an_embedded_text(tmp_path, text, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert main(["train", "-", *SMALL, "--steps", "1"]) == 0
    pattern = ["--pattern", "t*.txt", "--run", "folder"]
    assert main(["train", str(tmp_path), *pattern, *SMALL, "--steps", "1"]) == 0
    assert main(["train", "--limit", "3000", *SMALL, "--steps", "1"]) == 0
    assert main(["train", "--limit", "3000", *SMALL, "--steps", "1"]) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "python-reference-lstm", "python-reference-lstm-2", "standard-input-lstm"]
    assert "note: read the first 3,000 characters" in capsys.readouterr().err


def test_what_is_not_finite_stops_the_run_or_is_skipped(tmp_path, text, capsys):
    a = tmp_path / "a"
    command = ["train", text, *SMALL, "--optimizer", "sgd", "--steps", "6", "--run", str(a)]
    assert main([*command, "--lr", "1e39"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "step 2: " in said[-1] and f"--resume {a} --lr" in said[-1] and "Warning" not in "".join(said)
    assert not list(a.glob("*.npz"))  # of weights that are not finite there is no checkpoint
    assert main(["train", "--resume", str(a), "--lr", "0.1"]) == 0
    assert main([*command, "--lr", "1e39", "--overwrite", "--non-finite", "skip"]) == 0
    assert json.loads((a / "metrics.jsonl").read_text().splitlines()[-1])["skipped"] == 5


# ----------------------------------------------------------------------------------------------------------
# sample, evaluate, draw
# ----------------------------------------------------------------------------------------------------------


def test_sample_is_repeatable_and_begins_with_its_prompt(run, capsys):
    outs = []
    for seed in ("1", "1", "2"):
        assert main(["sample", str(run), "--prompt", "별을", "--length", "30", "--seed", seed]) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1] != outs[2]
    assert outs[0].startswith("별을") and len(outs[0]) == 33
    assert main(["sample", str(run / "best.npz"), "--length", "0"]) == 0
    assert capsys.readouterr().out == "\n"


def test_sample_settings_narrow_the_choice(run, capsys):
    greedy = []
    for options in (["--temperature", "0"], ["--top-k", "1"], ["--top-p", "1e-9"]):
        assert main(["sample", str(run), "--length", "20", *options]) == 0
        greedy.append(capsys.readouterr().out)
    assert len(set(greedy)) == 1


def test_sample_ends_quietly_when_nobody_reads_on(run):
    command = [sys.executable, "-m", "rnn", "sample", str(run), "--length", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_training_goes_on_when_nobody_reads_its_samples(text, tmp_path, capsys, monkeypatch):
    out, into = os.pipe()
    os.close(out)
    with os.fdopen(into, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        options = ["--steps", "4", "--sample-every", "1", "--run", str(tmp_path / "a")]
        assert main(["train", text, *SMALL, *options]) == 0
    said = capsys.readouterr().err
    assert "done: step 4" in said and "Pipe" not in said


def test_evaluate(run, text, capsys):
    assert main(["evaluate", str(run)]) == 0
    held_out = capsys.readouterr()
    assert "held out" in held_out.err
    bits = float(held_out.out.split()[0])
    valid = min(json.loads(line)["valid"] for line in (run / "metrics.jsonl").read_text().splitlines())
    assert bits == pytest.approx(valid / np.log(2), rel=0.02)  # there in rows, here in a single walk
    assert main(["evaluate", str(run), text, "--limit", "500", "--batch", "4"]) == 0
    assert "499 chars" in capsys.readouterr().err


def test_draw(run, tmp_path, capsys):
    for argv in ([str(run)], ["--cell", "gru", "--steps", "1", "--layers", "2"], []):
        path = tmp_path / "graph.svg"
        path.unlink(missing_ok=True)
        assert main(["draw", *argv, "-o", str(path)]) == 0
        assert "</svg>" in path.read_text(encoding="utf-8") and "drew" in capsys.readouterr().err


@pytest.mark.parametrize("cell, letters", [("rnn", "h"), ("jordan", "hy"), ("peephole", "cfgio"), ("coupled", "cfgo"),
                                           ("layer-norm", "cfgio"), ("projection", "cfgio"), ("gru", "nrz"),
                                           ("reset-before", "nrz")])
def test_draw_any_cell_one_way_and_both(cell, letters, tmp_path):
    for more in ([], ["--bidirectional", "--layers", "2"]):
        path = tmp_path / "graph.txt"
        assert main(["draw", "--cell", cell, "--steps", "2", *more, "-o", str(path)]) == 0
        text = path.read_text(encoding="utf-8")
        assert all(f"{letter}ₜ = " in text for letter in letters), text
        assert ("backward" in text) is bool(more)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "reset-before", "projection"])
def test_draw_zoneout_of_any_cell_that_can_have_it(cell, tmp_path):
    path = tmp_path / "graph.txt"
    assert main(["draw", "--cell", cell, "--scheme", "zoneout", "-o", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "Zoneout h mask" in text and ("Zoneout c mask" in text) is (cell in ("lstm", "projection"))


# ----------------------------------------------------------------------------------------------------------
# mistakes
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv, words", [
    (["train", "TEXT", "--hidden", "0"], ["--hidden is at least 1, not 0"]),
    (["train", "TEXT", "--hidden", "many"], ["--hidden", "whole number", "'many'"]),
    (["train", "TEXT", "--lr", "nan"], ["--lr", "number"]),
    (["train", "TEXT", "--lr", "-1"], ["--lr is above 0"]),
    (["train", "TEXT", "--dropout", "1"], ["--dropout is at least 0 and below 1"]),
    (["draw", "--cell", "rnn", "--scheme", "rnndrop"], ["--cell rnn --scheme rnndrop"]),
    (["train", "TEXT", "--cell", "elman"], ["--cell", "lstm"]),
    (["train", "TEXT", *SMALL, "--cell", "gru", "--dropout", "0.1", "--scheme", "rnndrop"], ["--scheme rnndrop"]),
    (["train", "TEXT", "--tied", "--embedding", "9"], ["--tied", "--embedding 256"]),
    (["train", "TEXT", *SMALL, "--hidden", "1000000"], ["GB of memory", "--hidden"]),
    (["train", "TEXT", "--clip", "1", "--clip-value", "1"], ["exclude each other"]),
    (["train", "TEXT", "--schedule", "plateau", "--valid", "0"], ["plateau", "--valid"]),
    (["train", "TEXT", "--batch", "5000"], ["too short", "batch"]),
    (["train", "TEXT", "--encoding", "klingon"], ["klingon", "utf-8"]),
    (["train", "TEXT", "--min-count", "999"], ["min_count"]),
    (["train", "TEXT", "--hid", "8"], ["--hid"]),
    (["train", "missing.txt"], ["there is no", "missing.txt", "python-reference"]),
    (["train", "EMPTY"], ["is empty"]),
    (["train", "ONE"], ["over and over"]),
    (["train", "BINARY"], ["binary", "--level byte"]),
    (["train", "LATIN"], ["not utf-8", "--encoding"]),
    (["train", "TEXT", *SMALL, "--run", "RUN"], ["already has a run", "--resume"]),
    (["train", "TEXT", *SMALL, "--run", "TEXT"], ["cannot write", "--run"]),
    (["train", "--resume", "missing"], ["there is no folder missing"]),
    (["train", "--resume", "EMPTYDIR"], ["there is no run in"]),
    (["train", "--resume", "RUN"], ["come to its end", "--epochs"]),
    (["train", "--resume", "RUN", "--hidden", "9", "--steps", "99"], ["--hidden is fixed", "8"]),
    (["train", "--resume", "RUN", "--run", "x"], ["leave out --run"]),
    (["sample", "missing"], ["there is no folder"]),
    (["sample", "TEXT"], ["cannot load"]),
    (["sample", "RUN", "--prompt", "Ж"], ["U+0416", "not among"]),
    (["sample", "RUN", "--temperature", "-1"], ["--temperature", "at least 0"]),
    (["sample", "RUN", "--top-k", "0"], ["--top-k", "at least 1"]),
    (["sample", "RUN", "--top-p", "0"], ["--top-p is above 0"]),
    (["sample", "RUN", "--top-p", "2"], ["--top-p", "from 0 to 1"]),
    (["sample", "RUN", "--length", "x"], ["--length", "whole number"]),
    (["evaluate", "RUN", "missing.txt"], ["there is no missing.txt"]),
    (["evaluate", "RUN", "LATIN", "--encoding", "latin-1"], ["not among"]),
    (["draw", "RUN", "--cell", "gru"], ["--cell is for a new model"]),
    (["draw", "-o", "graph.doc"], [".svg"]),
    (["draw", "-o", "missing/graph.svg"], ["missing/graph.svg"]),
    (["draw", "--steps", "0"], ["--steps", "1 to 1000"]),
    (["paint"], ["paint", "train"]),
])  # fmt: skip
def test_a_mistake_is_one_line(run, text, tmp_path, capsys, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    names = {"RUN": str(run), "TEXT": text}
    files = {"EMPTY": b"", "ONE": b"a" * 5000, "BINARY": bytes(5000), "LATIN": b"caf\xe9 " * 999}
    for name, content in files.items():
        names[name] = str(tmp_path / name)
        (tmp_path / name).write_bytes(content)
    names["EMPTYDIR"] = str(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    before = {p: p.stat().st_mtime_ns for p in run.iterdir()}
    fails(capsys, [names.get(word, word) for word in argv], *words)
    assert not (tmp_path / "runs").exists()  # nothing was begun,
    assert {p: p.stat().st_mtime_ns for p in run.iterdir()} == before  # and nothing was lost


def test_resuming_with_another_text(tmp_path, text, capsys):
    a = tmp_path / "a"
    assert main(["train", text, *SMALL, "--steps", "3", "--run", str(a)]) == 0
    for other, words in ((TEXT[::-1], "another text"), (TEXT.replace("w", "W"), "other symbols")):
        with open(text, "w", encoding="utf-8") as file:
            file.write(other)
        fails(capsys, ["train", "--resume", str(a), "--steps", "9"], words)
    assert mg.load(a / "checkpoint-00000003.npz")["trainer"]["steps"] == 3


@pytest.mark.parametrize("damage", ["[]", "{", '{"settings": {"hidden": "8"}}', '{"settings": {"x": 1}}'])
def test_a_folder_from_elsewhere(tmp_path, capsys, damage):
    (tmp_path / "config.json").write_text(damage)
    fails(capsys, ["train", "--resume", str(tmp_path)], "config.json")
    fails(capsys, ["sample", str(tmp_path)])


def test_a_checkpoint_whose_parts_do_not_belong_together(run, tmp_path, capsys):
    tree = mg.load(run / "best.npz")
    for change in ({"hidden": 10**6}, {"layers": 10**6}, {"embedding": 3}, {"cell": "gru"}):
        mg.save(tmp_path / "x.npz", {**tree, "settings": {**tree["settings"], **change}})
        fails(capsys, ["sample", str(tmp_path / "x.npz")], "cannot use")
    for name in ("settings", "vocabulary", "trainer"):
        mg.save(tmp_path / "x.npz", {**tree, name: 1})
        fails(capsys, ["sample", str(tmp_path / "x.npz")], "cannot use")


def test_weights_that_are_not_finite(run, tmp_path, capsys):
    tree = mg.load(run / "best.npz")
    tree["trainer"]["model"]["output.bias"][:] = np.nan
    mg.save(tmp_path / "x.npz", tree)
    fails(capsys, ["sample", str(tmp_path / "x.npz")], "not finite")


def test_not_enough_memory_and_other_accidents(run, capsys, monkeypatch):
    for error, words in ((MemoryError(), "not enough memory"), (OSError(28, "No space left"), "No space")):

        def broken(arguments, error=error):
            raise error

        monkeypatch.setitem(rnn.cli.COMMANDS, "sample", broken)
        fails(capsys, ["sample", str(run)], words)

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(rnn.cli.COMMANDS, "sample", interrupted)
    fails(capsys, ["sample", str(run)], "interrupted", status=130)


# ----------------------------------------------------------------------------------------------------------
# settings and progress
# ----------------------------------------------------------------------------------------------------------


def test_settings_come_back_from_json():
    settings = Settings(level="word", lr=1, minutes=2.5, max_symbols=100)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    for wrong in (None, [], {"nope": 1}, {"hidden": 1.5}, {"hidden": True}, {"cell": "x"}, {"lr": np.inf}):
        with pytest.raises(SettingsError):
            Settings.from_json(wrong)


def test_a_new_end_or_clip_takes_the_place_of_the_old():
    settings = Settings(steps=10, clip=2.0)
    assert settings.changed({"epochs": 3.0}).steps is None
    assert settings.changed({"clip_value": 1.0}).clip == 0
    assert settings.changed({"hidden": 256}) == settings
    with pytest.raises(SettingsError, match="--batch is fixed"):
        settings.changed({"batch": 1})


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_folder_that_fills_up_is_named(tmp_path, monkeypatch):
    """Of a file that could not be written nothing is left, and the old one is still there."""
    def full(*_):
        raise OSError(28, "No space left on device")

    rnn.runs.write_file(tmp_path / "a", b"old")
    monkeypatch.setattr(rnn.runs.os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        rnn.runs.write_file(tmp_path / "a", b"new")
    assert caught.value.filename == str(tmp_path / "a")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
    with pytest.raises(rnn.runs.RunError, match=r"cannot write to .*: No space left on device; give another --run"):
        RunFolder(tmp_path).write(Settings())


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_progress_line(stream, text, tmp_path):
    from rnn.build import make_model, make_plan, make_trainer, parts, read

    settings = Settings(source=text, hidden=8, batch=4, time=10, steps=40)
    vocabulary = read(settings)[1]
    model = make_model(settings, len(vocabulary))
    trainer = make_trainer(settings, model, *parts(settings, vocabulary.encode(TEXT)))
    shown = stream()
    with Progress(make_plan(settings, 10), "char", every=0.0, stream=shown) as progress:
        progress.every = 0.0
        for _ in range(3):
            progress.stepped(trainer, trainer.step())
        progress.valid = 1.0
        progress.say("a message")
        line = progress.line(trainer, trainer.step(), progress.started + 2.0)
    assert "a message\n" in shown.getvalue() and "step 3/40" in shown.getvalue()
    assert "chars/s" not in shown.getvalue().partition("step 2/40")[0]  # the first step may have had to compile
    assert line.startswith("step 4/40  epoch 0.1  loss ") and " bits/char  val 1.443  |g| " in line
    assert line.endswith(" (clipped 0%)  40 chars/s  eta 0:24")
    assert ("\r" in shown.getvalue()) == (stream is Terminal)


def test_a_plan_without_an_end_has_no_eta():
    assert Progress(Plan(steps=None), "word", stream=io.StringIO())._left(None, 1.0) is None

"""What the README tells people to type works."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from jobs.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _words(program):
    """Argument lists of every call of a program in the bash blocks."""
    lines = [shlex.split(line, comments=True) for block in _blocks("bash") for line in block.splitlines()]
    called = [(line, [i for i, word in enumerate(line) if Path(word).name == program]) for line in lines]
    return [line[at[0] + 1 :] for line, at in called if at]


def _help(capsys, *command):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    wanted = {words[0] for words in _words("make")}
    assert {"demo", "test"} <= wanted <= targets


@pytest.mark.parametrize("words", _words("lift3d") + [["label", *w] for w in _words("label_scannet.py")], ids=" ".join)
def test_commands_and_their_options_exist(capsys, words):
    text = _help(capsys, words[0])
    assert [word for word in words if word.startswith("--") and f"  {word} " not in text] == []


def test_the_operator_is_complete_and_what_is_said_about_its_labels_works(tmp_path, monkeypatch, sample_room, capsys):
    operator, *queries = _blocks("python")[::-1][:1] + _blocks("python")[:-1]
    assert len(operator.splitlines()) < 30
    (tmp_path / "my_models").mkdir()
    (tmp_path / "my_models" / "brightness.py").write_text(operator)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--operator", "my_models.brightness:Brightness", "--engine", "local", "--set", "plan.chunk=24"]
    with pytest.raises(SystemExit) as exit_:
        main(["label", str(sample_room), "--store", "out/labels", *options])
    assert not exit_.value.code
    capsys.readouterr()
    for number, query in enumerate(queries):
        (tmp_path / f"query_{number}.py").write_text(query)
    table = runpy.run_path(str(tmp_path / "query_0.py"))["labels"]
    assert len(table) == 24
    assert runpy.run_path(str(tmp_path / "query_1.py"))["ids"].shape == (240, 320)

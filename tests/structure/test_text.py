"""What is written in the repository holds on every machine: no hosts, no machine's paths, no promises."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".html", ".lock", ".txt", ""}
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:root|home|opt|tmp|work)/[a-z]")
HOST = re.compile("|".join(("py" + r"pi\.org", "python" + r"hosted\.", "index" + "[-_]url", "find" + "[-_]links")))
PROMISE = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "Not" + "ImplementedError")))


@pytest.fixture(scope="module")
def texts():
    """Relative path -> text of every text file that git has or would take."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / line for line in done.stdout.splitlines()]
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in paths
        if path.is_file() and path.suffix in TEXT
    }


@pytest.mark.parametrize("pattern", [MACHINE_PATH, HOST, PROMISE], ids=["machine-path", "host", "promise"])
def test_nothing_is_tied_to_a_machine_or_left_for_later(texts, pattern):
    # The shipped lock names packages and hashes, whose letters may spell anything.
    found = [
        f"{name}: {match.group(0)}"
        for name, text in texts.items()
        if name not in {"requirements.lock", "LICENSE"}
        for match in pattern.finditer(text)
    ]
    assert not found


def test_no_file_is_large():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    sizes = {name: (ROOT / name).stat().st_size for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    assert {name: size for name, size in sizes.items() if size > 5_000_000} == {}


def test_relative_links_in_the_documents_lead_somewhere(texts):
    broken = [
        f"{name} -> {target}"
        for name, text in texts.items()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#\s]+)", text)
        if "://" not in target and not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert not broken


def test_the_architecture_lists_every_file(modules):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    sections = re.split(r"^### `(.+)/`$", text, flags=re.MULTILINE)[1:]
    listed = {
        f"{folder}/{name}"
        for folder, section in zip(sections[::2], sections[1::2], strict=True)
        for name in re.findall(r"^\| `(\S+\.py)` \|", section, flags=re.MULTILINE)
    }
    assert listed == {str(m.path.relative_to(ROOT)) for m in modules if m.path.name != "__init__.py"}

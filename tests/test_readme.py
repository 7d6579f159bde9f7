"""README and docs are runnable: Python blocks run, and commands use existing settings."""

import re
import shlex
from pathlib import Path

import pytest

from sslkernels.data.dali.__main__ import main as explain
from sslkernels.eval.__main__ import _parser as eval_parser
from sslkernels.study import STUDIES
from sslkernels.study.__main__ import _parser as study_parser
from sslkernels.train.__main__ import main as train

ROOT = Path(__file__).parents[1]


def pages(*patterns: str) -> list[str]:
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    """Modules and arguments of ``python -m sslkernels.…`` or torchrun commands, once each."""
    found = {}
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for index, word in enumerate(words):
                    if word.startswith("sslkernels.") and words[index - 1] == "-m":
                        found[line.partition("#")[0].strip()] = (word, words[index + 1 :])
    return list(found.values())


PAGES = pages("README.md", "docs/**/*.md", "sslkernels/compat/README.md")
PYTHON = [page for page in PAGES if blocks(page, "python")]
COMMANDS = commands()


def test_there_is_something_to_run():
    assert "README.md" in PYTHON and len(PYTHON) > 5 and len(COMMANDS) > 10


@pytest.mark.parametrize("page", PYTHON)
def test_python_blocks_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks(page, "python")), page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(("module", "arguments"), COMMANDS, ids=lambda x: " ".join(x[:4]))
def test_commands_have_settings_that_exist(module, arguments, capsys):
    if module == "sslkernels.train":
        assert train([*arguments, "--print-config"]) == 0, capsys.readouterr().err
    elif module == "sslkernels.study":
        assert study_parser().parse_args(arguments).study in STUDIES
    elif module == "sslkernels.eval":
        eval_parser().parse_args(arguments)
    else:
        assert module == "sslkernels.data.dali"
        explain(arguments)


@pytest.mark.parametrize(
    "page", [*PAGES, *pages("C*.md", "examples/*.md", "sslkernels/**/README.md")]
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", (ROOT / page).read_text())
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link

"""Every example in the documentation is right: YAML loads, commands exist, links lead
somewhere, files and functions that are named are there."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import click
import pytest
import yaml

from benchmarks.__main__ import main as benchmarks_command
from benchmarks.reliability.__main__ import main as reliability_command
from fuzz.__main__ import main as fuzz_command
from sidecar.admin.operations import Operations
from sidecar.admin.server import application
from sidecar.cli import main as sidecar_command
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import load_text
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, docs, links, prose, text_of
from tests.support.authority import Authority

COMMANDS = {
    "sidecar": sidecar_command,
    "benchmarks": benchmarks_command,
    "benchmarks.reliability": reliability_command,
    "fuzz": fuzz_command,
}


def each(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks(language), ids=str)


@each("yaml")
def test_yaml_is_a_configuration(block: Block) -> None:
    spec = load_text(block.text, str(block), {})
    assert spec.clusters or spec.listeners or "defaults" in block.text


@each("yaml tls")
def test_yaml_with_certificates_is_a_configuration(block: Block, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("spiffe://example.org/x")
    for name, path in (("ca.crt", authority.path), ("tls.crt", pair.cert), ("tls.key", pair.key)):
        (tmp_path / name).symlink_to(path)
    assert load_text(block.text.replace("/etc/tls", str(tmp_path)), str(block), {}).listeners


@pytest.mark.parametrize("language", ["yaml kubernetes", "yaml prometheus"])
def test_other_yaml_is_well_formed(language: str) -> None:
    found = blocks(language)
    assert found
    for block in found:
        assert isinstance(yaml.safe_load(block.text), dict), block


def test_the_example_of_an_error_is_what_is_said() -> None:
    text = "clusters:\n  users:\n    retrys: {}\n    endpoints: [a:1]\n"
    with pytest.raises(ConfigErrors, match="unknown key") as error:
        load_text(text, "sidecar.yaml", {})
    assert str(error.value) in text_of(docs("configuration.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(path), link


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in links(page) if link[0] != "#")
        waiting += [target for target in targets if target.suffix == ".md"]
    assert {str(page.relative_to(ROOT)) for page in PAGES} - {"fuzz/README.md"} <= {
        str(page.relative_to(ROOT)) for page in seen
    }


# Commands.


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a block; variables set before it left out."""
    found = []
    for line in block.text.splitlines():
        for part in re.split(r"&&|;|\||>| & | &$", line.partition(" #")[0] if "#" in line else line):
            words = shlex.split(part)
            while words and (re.match(r"[A-Za-z_]+=", words[0]) or words[0] in ("do", "done", "for")):
                words.pop(0)
            if words:
                found.append(words)
    return found


@each("sh")
def test_commands_exist(block: Block) -> None:
    for words in commands(block):
        if words[0] == "make":
            check_make(words[1:])
        elif words[0] == "sidecar":
            check_click(sidecar_command, words[1:])
        elif words[:2] == ["python", "-m"]:
            check_click(COMMANDS[words[2]], words[3:])
        elif words[0] == "curl" and any("15000" in word for word in words):
            check_admin(words)


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        if "=" in word:
            assert re.search(rf"^{word.partition('=')[0]}\b", makefile, re.MULTILINE), word
        else:
            assert re.search(rf"^{word}:", makefile, re.MULTILINE), f"make {word}"


def check_click(command: click.Command, words: list[str]) -> None:
    """The command parses its words: they are no usage error."""
    if isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    command.make_context("x", [word for word in words if word != "..."], resilient_parsing=False)


def check_admin(words: list[str]) -> None:
    """A URL of the admin API, with the method that it takes."""
    url = next(word for word in words if "15000" in word)
    path = "/" + url.partition("15000/")[2].partition("?")[0]
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    # Operations that nobody calls: the routes alone are looked at.
    nobody = cast(Operations, SimpleNamespace(runtime=None, reloads={}, version=""))
    found = []
    for route in application(nobody).router.routes():
        assert route.resource is not None
        info = route.resource.get_info()
        fits = info["pattern"].fullmatch(path) if "pattern" in info else info["path"] == path
        found += [route.method] if fits else []
    assert method in found, (method, path)


def test_every_command_is_in_the_readme() -> None:
    table = prose(ROOT / "README.md").partition("## Commands")[2].partition("##")[0]
    assert set(re.findall(r"^\| `sidecar (\w+)", table, re.MULTILINE)) == set(sidecar_command.commands)


# Files and functions.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:sidecar|tests|config|docs|benchmarks|fuzz)/[\w./-]+)`", prose(page)):
        assert (ROOT / name).exists(), name


def test_functions_of_the_life_of_a_request_are_there() -> None:
    text = prose(docs("life-of-a-request.md"))
    found = 0
    # `sidecar/x.py` `name`, `other`
    for path, following in re.findall(r"`(sidecar/[\w/]+\.py)`((?:,? `\w+`)+)", text):
        for name in re.findall(r"`(\w+)`", following):
            found += 1
            assert re.search(rf"(def|class) {name}\b", (ROOT / path).read_text()), f"{path}: {name}"
    everything = "\n".join(file.read_text() for file in (ROOT / "sidecar").rglob("*.py"))
    # `Class.method`
    for owner, name in re.findall(r"`([A-Z]\w+)\.(\w+)`", text):
        found += 1
        assert re.search(rf"class {owner}\b", everything), owner
        assert re.search(rf"(def {name}\b|\"{name}\"|{name}: )", everything), f"{owner}.{name}"
    assert found > 40


def test_decisions_are_numbered_and_listed() -> None:
    files = sorted(path.name for path in docs("adr").glob("0*.md"))
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))
    index = text_of(docs("adr") / "README.md")
    for name in files:
        text = text_of(docs("adr") / name)
        number, title = re.fullmatch(r"# (\d+)\. (.+)", text.splitlines()[0]).groups()  # type: ignore[union-attr]
        assert int(number) == int(name[:4])
        assert f"- [{name[:4]}]({name}) {title}" in index
        assert "**Context.**" in text
        assert "**Decision.**" in text
        assert "**Consequences.**" in text


# Made from the schema.


def keys_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_keys", docs("keys.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_keys_are_up_to_date() -> None:
    text = text_of(docs("configuration.md"))
    assert keys_module().rewritten(text) == text, "run: make docs"


def test_every_section_has_a_table() -> None:
    keys = keys_module()
    shown = {keys.section_of(path) for path in keys.paths(text_of(docs("configuration.md")))}
    assert {section.__name__ for section in keys.sections() - shown} <= {"TcpCheck"}


def test_the_json_schema_is_up_to_date() -> None:
    from click.testing import CliRunner

    printed = CliRunner().invoke(sidecar_command, ["schema"]).output
    assert docs("config.schema.json").read_text() == printed, "run: make docs"

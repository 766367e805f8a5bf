from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reconciler.errors import ConfigurationNotFoundError, InvalidConfigurationError
from reconciler.kube.kubeconfig import read

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {
    "current-context": "one",
    "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://api:6443/"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
}


def write(path: Path, document: object) -> str:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return str(path)


def test_a_context_is_its_cluster_and_its_user(tmp_path: Path) -> None:
    found = read([write(tmp_path / "k", GOOD)])
    assert (found.name, found.server, found.user_name, found.user) == ("one", "https://api:6443", "u", {"token": "t"})


def test_the_first_file_that_sets_a_value_wins(tmp_path: Path) -> None:
    other = {
        "current-context": "two",
        "contexts": [{"name": "two", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://other"}}],
        "users": [],
    }
    files = [str(tmp_path / "absent"), write(tmp_path / "empty", ""), write(tmp_path / "a", GOOD)]
    files.append(write(tmp_path / "b", other))
    assert read(files).name == "one"
    assert read(files, context="two").server == "https://api:6443"


def test_paths_are_relative_to_their_kubeconfig(tmp_path: Path) -> None:
    document = {
        **GOOD,
        "clusters": [{"name": "c", "cluster": {"server": "https://a", "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": {"client-key": "/k", "tokenFile": "t", "exec": {"command": "./bin/plugin"}}}],
    }
    found = read([write(tmp_path / "folder" / "k", document)])
    folder = tmp_path / "folder"
    assert found.cluster["certificate-authority"] == str(folder / "ca.crt")
    assert (found.user["client-key"], found.user["tokenFile"]) == ("/k", str(folder / "t"))
    assert found.user["exec"]["command"] == f"{folder}/./bin/plugin"


def test_a_command_without_a_path_is_left_to_path(tmp_path: Path) -> None:
    document = {**GOOD, "users": [{"name": "u", "user": {"exec": {"command": "plugin"}}}]}
    assert read([write(tmp_path / "k", document)]).user["exec"]["command"] == "plugin"


@pytest.mark.parametrize(
    ("change", "context", "words"),
    [
        ({"current-context": ""}, None, "has no current-context; choose one with --context; there are: one"),
        ({"current-context": "x"}, None, "its current-context does not exist: x; there are: one"),
        ({}, "x", "no context x; there are: one"),
        ({"contexts": None}, None, "there are: none"),
        ({"clusters": []}, None, "cluster 'c' of context one does not exist"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, None, "has no server"),
        ({"clusters": [{"name": "c", "cluster": {"server": 5}}]}, None, "has no server"),
        ({"users": None}, None, "user 'u' of context one does not exist"),
        ({"users": {"u": {}}}, None, "users: expected a list of {name, user}"),
        ({"users": ["u"]}, None, "users: expected a list of {name, user}"),
        ({"users": [{"user": {}}]}, None, "users: expected a list of {name, user}"),
        ({"users": [{"name": "u", "user": "t"}]}, None, "users: expected a list of {name, user}"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, change: dict[str, Any], context: str | None, words: str) -> None:
    path = write(tmp_path / "k", {**GOOD, **change})
    with pytest.raises(InvalidConfigurationError) as found:
        read([path], context=context)
    assert words in str(found.value)
    assert path in str(found.value)


@pytest.mark.parametrize("text", ["[a", "- a", "5", "\x00"])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=r"kubeconfig .*/k"):
        read([write(tmp_path / "k", text)])


def test_no_file_at_all_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationNotFoundError, match="give --kubeconfig"):
        read([str(tmp_path / "absent")])

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from fleet_common.policy import BUILT_IN, BadPolicy, PolicyFile, Target
from fleet_common.settings import SettingsError
from fleet_common.testing import principal, wait_until

ONE = "version: 1\nroles:\n  one: {scopes: ['data:read']}\n"
TWO = "version: 1\nroles:\n  two: {scopes: ['data:read']}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "fleet-policy.yaml"
    file.write_text(ONE)
    return file


def test_without_a_path_the_built_in_policy_holds() -> None:
    assert PolicyFile().current is BUILT_IN


def test_nothing_is_allowed_before_the_file_was_read(path: Path) -> None:
    file = PolicyFile(path)
    assert file.current.roles == {}
    file.load()
    assert list(file.current.roles) == ["one"]


def test_a_changed_file_is_read_again(path: Path) -> None:
    file = PolicyFile(path)
    file.load()
    path.write_text(TWO)
    file.refresh()
    assert list(file.current.roles) == ["two"]


def test_a_mounted_file_that_is_swapped_by_its_link_is_read_again(tmp_path: Path) -> None:
    # As Kubernetes renews a ConfigMap: the file is a link through a folder that is itself a link.
    for name, text in (("old", ONE), ("new", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    file = PolicyFile(tmp_path / "policy.yaml")
    file.load()
    (tmp_path / "..tmp").symlink_to("new")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    file.refresh()
    assert list(file.current.roles) == ["two"]


def test_a_wrong_version_leaves_the_last_good_one_in_force_and_its_line_in_the_log(
    path: Path,
) -> None:
    file = PolicyFile(path)
    file.load()
    path.write_text("version: 1\nrolls: {}\n")
    with structlog.testing.capture_logs() as logged:
        file.refresh()
        file.refresh()
    assert list(file.current.roles) == ["one"]
    assert [(each["event"], each["mistakes"]) for each in logged] == [
        ("policy_rejected", ["2: rolls: unknown key"])
    ]


def test_a_file_that_is_gone_leaves_the_last_good_one_in_force(path: Path) -> None:
    file = PolicyFile(path)
    file.load()
    path.unlink()
    with structlog.testing.capture_logs() as logged:
        file.refresh()
        file.refresh()
    assert list(file.current.roles) == ["one"]
    assert len(logged) == 1
    path.write_text(TWO)
    file.refresh()
    assert list(file.current.roles) == ["two"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"version: 1\nrolls: {}\n"])
def test_a_first_reading_that_fails_says_why(path: Path, content: bytes | None) -> None:
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadPolicy):
        PolicyFile(path).load()


async def test_a_process_does_not_start_with_a_wrong_policy(path: Path) -> None:
    await asyncio.to_thread(path.write_text, "version: 1\nrolls: {}\n")
    with pytest.raises(SettingsError, match=r"fleet-policy\.yaml:2: rolls: unknown key"):
        async with PolicyFile(path).followed():
            pass


async def test_a_running_process_follows_the_file(path: Path) -> None:
    file = PolicyFile(path)
    async with file.followed():
        assert list(file.current.roles) == ["one"]
        await asyncio.to_thread(path.write_text, TWO)

        async def has_role_two() -> bool:
            return "two" in file.current.roles

        with structlog.testing.capture_logs() as logged:
            await wait_until(has_role_two)
    assert [(each["event"], each["roles"]) for each in logged] == [("policy_loaded", ["two"])]


def test_an_answer_ends_with_the_policy_that_gave_it(path: Path) -> None:
    file = PolicyFile(path)
    file.load()
    search = Target("tool", "crm_search", "data:read")
    assert file.decide(principal("one"), search).allowed
    assert file.decide(principal("one"), search) is file.decide(principal("one"), search)
    path.write_text(TWO)
    file.refresh()
    assert not file.decide(principal("one"), search).allowed


def test_answers_are_remembered_by_everything_they_depend_on(path: Path) -> None:
    file = PolicyFile(path)
    file.load()
    search = Target("tool", "crm_search", "data:read")
    caller = principal("one")
    asked = [
        (caller, search),
        (replace(caller, scopes=frozenset()), search),
        (replace(caller, roles=frozenset()), search),
        (None, search),
        (caller, replace(search, scope="data:write")),
    ]
    for _ in range(2):
        assert [file.decide(*each).allowed for each in asked] == [True, False, False, False, False]


def test_the_memory_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_common.policy.file._REMEMBERED", 3)
    file = PolicyFile()
    for name in range(10):
        assert not file.decide(principal(), Target("prompt", str(name), "data:read")).allowed
    assert len(file._in_force._known) <= 3

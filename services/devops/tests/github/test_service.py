"""GitHub as the service reads it, from the stateful emulator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from fleet_common.errors import InvalidInput, NotFound, PayloadTooLarge, UpstreamFailed
from fleet_common.testing import granted
from fleet_devops.errors import Moved, NotText
from fleet_devops.github.client import GitHubClient
from fleet_devops.github.service import GitHub, IssueFilter, IssuePage
from fleet_devops.reach import Reach

if TYPE_CHECKING:
    from services.devops.tests.github.conftest import FaultProxy

CALLER = granted()
ALL = IssueFilter(state="all")


async def issues(
    github: GitHub, wanted: IssueFilter = ALL, *, limit: int = 50, cursor: str | None = None
) -> IssuePage:
    return await github.issues(CALLER, "admin", "hello", wanted, limit=limit, cursor=cursor)


async def test_a_repository_is_read(github: GitHub) -> None:
    found = await github.repository(CALLER, "admin", "hello")

    assert found.full_name == "admin/hello"
    assert found.default_branch == "main"


async def test_a_repository_out_of_reach_looks_like_one_that_is_not_there(
    github: GitHub, proxy: FaultProxy
) -> None:
    with pytest.raises(NotFound) as out_of_reach:
        await github.repository(CALLER, "other", "hello")
    with pytest.raises(NotFound) as absent:
        await github.repository(CALLER, "admin", "absent")

    assert str(out_of_reach.value) == "not_found: repository other/hello not found"
    assert str(absent.value) == "not_found: repository admin/absent not found"
    assert [call.path for call in proxy.calls] == ["/repos/admin/absent"]


async def test_a_repository_that_moved_out_of_reach_is_not_shown(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    github = GitHub(client, Reach(("admin/old",), ("*",)))
    proxy.fail(301, {"Location": "/repos/admin/hello"}, b"{}")

    with pytest.raises(NotFound):
        await github.repository(CALLER, "admin", "old")


async def test_a_file_of_a_moved_repository_is_refused_with_a_hint(
    github: GitHub, proxy: FaultProxy
) -> None:
    proxy.fail(301, {"Location": "/repositories/1/contents/README.md"}, b"{}")

    with pytest.raises(Moved, match="gh_repo_get tells its present name"):
        await github.read_file(CALLER, "admin", "hello", "README.md", None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/a b#c.txt", "odd name\n"),
        ("empty.txt", ""),
        ("latin1.txt", "caf\ufffd\n"),
    ],
)
async def test_files_are_text(github: GitHub, path: str, text: str) -> None:
    file = await github.read_file(CALLER, "admin", "hello", path, "main")

    assert file.text == text
    assert file.lossy == ("\ufffd" in text)


async def test_a_binary_file_is_refused(github: GitHub) -> None:
    with pytest.raises(NotText, match=r"^invalid_input: logo.png is a binary file of 16 bytes"):
        await github.read_file(CALLER, "admin", "hello", "logo.png", None)


async def test_a_directory_is_refused_with_what_it_holds(github: GitHub) -> None:
    with pytest.raises(InvalidInput, match=r"src is a directory. It holds: .*app\.py"):
        await github.read_file(CALLER, "admin", "hello", "src", None)


@pytest.mark.parametrize("path", ["a/../b", "./a", "a//b", "..", "a/."])
async def test_paths_that_would_leave_the_repository_are_refused(
    github: GitHub, proxy: FaultProxy, path: str
) -> None:
    with pytest.raises(InvalidInput):
        await github.read_file(CALLER, "admin", "hello", path, None)

    assert proxy.calls == []


async def test_a_file_whose_content_github_leaves_out_is_fetched_raw(
    github: GitHub, proxy: FaultProxy
) -> None:
    over_1_mb = b'{"type":"file","path":"src/app.py","sha":"a","size":2000000,"encoding":"none","content":""}'
    proxy.fail(200, {}, over_1_mb)

    file = await github.read_file(CALLER, "admin", "hello", "src/app.py", None)

    assert file.text.startswith("line 1\n")
    assert proxy.calls[1].headers["accept"] == "application/vnd.github.raw+json"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b'{"type":"file","path":"a","sha":"a","size":99999999}', PayloadTooLarge),
        (b'{"type":"submodule","path":"a","sha":"a"}', InvalidInput),
        (
            b'{"type":"file","path":"a","sha":"a","size":3,"encoding":"base64","content":"x"}',
            UpstreamFailed,
        ),
        (b"<html>a captive portal</html>", UpstreamFailed),
    ],
)
async def test_what_is_not_a_readable_file_is_a_coded_error(
    github: GitHub, proxy: FaultProxy, answer: bytes, error: type[Exception]
) -> None:
    proxy.fail(200, {}, answer)

    with pytest.raises(error):
        await github.read_file(CALLER, "admin", "hello", "a", None)


async def test_a_list_leaves_out_the_pull_requests_github_mixes_in(
    github: GitHub, proxy: FaultProxy
) -> None:
    # The emulator lists no pull requests here, as GitHub does.
    at = '"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","html_url":"u"'
    issue = '{"number":%d,"title":"t","state":"open",' + at
    proxy.fail(200, {}, f'[{issue % 1}}},{issue % 2},"pull_request":{{"url":"u"}}}}]'.encode())

    page = await issues(github)

    assert [one.number for one in page.issues] == [1]
    assert page.pull_requests == 1


async def test_a_list_is_filtered_by_state_label_assignee_and_time(github: GitHub) -> None:
    closed = await issues(github, IssueFilter(state="closed"))
    labelled = await issues(github, IssueFilter(state="all", labels=("bug",)))
    assigned = await issues(github, IssueFilter(state="all", assignee="admin"))
    later = await issues(github, IssueFilter(since=datetime.now(UTC) + timedelta(days=1)))

    assert [issue.number for issue in closed.issues] == [2]
    assert [issue.number for issue in labelled.issues] == [1]
    assert assigned.issues == []
    assert later.issues == []


async def test_cursors_lead_through_every_issue_once(github: GitHub) -> None:
    seen: list[int] = []
    page = await issues(github, limit=3)
    while True:
        seen += [issue.number for issue in page.issues]
        if page.next_cursor is None:
            break
        assert page.next_cursor.startswith("devops.")
        page = await issues(github, limit=3, cursor=page.next_cursor)

    assert sorted(seen) == list(range(1, 8))


async def test_a_cursor_of_another_list_is_refused(github: GitHub, proxy: FaultProxy) -> None:
    page = await issues(github, limit=3)
    asked = len(proxy.calls)

    with pytest.raises(InvalidInput, match="another question"):
        await issues(github, IssueFilter(state="closed"), limit=3, cursor=page.next_cursor)

    assert len(proxy.calls) == asked


async def test_comments_come_in_pages(github: GitHub) -> None:
    first = await github.discussion(CALLER, "admin", "hello", 1, comments=2, cursor=None)
    rest = await github.discussion(
        CALLER, "admin", "hello", 1, comments=2, cursor=first.next_cursor
    )

    assert len(first.comments) == 2
    assert len(rest.comments) == 1
    assert rest.next_cursor is None


async def test_comments_are_not_asked_for_when_there_are_none(
    github: GitHub, proxy: FaultProxy
) -> None:
    found = await github.discussion(CALLER, "admin", "hello", 3, comments=10, cursor=None)

    assert found.comments == ()
    assert len(proxy.calls) == 1


async def test_an_unknown_issue_is_not_found(github: GitHub) -> None:
    with pytest.raises(NotFound, match="issue admin/hello#999 not found"):
        await github.discussion(CALLER, "admin", "hello", 999, comments=0, cursor=None)

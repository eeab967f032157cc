"""What can be read on GitHub, within what the caller may reach."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from fleet_common.errors import InvalidInput, PayloadTooLarge, UpstreamFailed
from fleet_common.policy import Grant
from fleet_devops import cursors
from fleet_devops.errors import NotText
from fleet_devops.github.models import (
    IssueState,
    Reply,
    WireComment,
    WireContent,
    WireIssue,
    WireRepository,
)
from fleet_devops.reach import Reach
from fleet_devops.text import clip, visible

MAX_FILE_BYTES = 8 * 1024 * 1024
RAW = "application/vnd.github.raw+json"
_SNIFFED_BYTES = (
    8000  # git's own rule for "binary": a NUL in the first 8,000 bytes (buffer_is_binary)
)

T = TypeVar("T")
_REPOSITORY = TypeAdapter(WireRepository)
_CONTENT: TypeAdapter[WireContent | list[WireContent]] = TypeAdapter(
    WireContent | list[WireContent]
)
_ISSUE = TypeAdapter(WireIssue)
_ISSUES = TypeAdapter(list[WireIssue])
_COMMENTS = TypeAdapter(list[WireComment])


class GitHubApi(Protocol):
    """What this service needs of a client."""

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        kind: str,
        key: str,
        accept: str = ...,
        follow: bool = ...,
    ) -> Reply:
        """Return GitHub's answer, or raise a coded error."""
        ...


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file as text, whole.

    Attributes:
        lossy: bytes that are not UTF-8 were replaced.
    """

    path: str
    sha: str
    size_bytes: int
    text: str
    lossy: bool


@dataclass(frozen=True, slots=True)
class IssueFilter:
    """Which issues a list is about."""

    state: IssueState = "open"
    labels: Sequence[str] = ()
    assignee: str | None = None
    since: datetime | None = None

    def params(self) -> dict[str, str]:
        """Return the filter as GitHub's query parameters, most recently updated first."""
        params = {"state": self.state, "sort": "updated", "direction": "desc"}
        if self.labels:
            params["labels"] = ",".join(self.labels)
        if self.assignee:
            params["assignee"] = self.assignee
        if self.since:
            params["since"] = self.since.isoformat()
        return params


@dataclass(frozen=True, slots=True)
class IssuePage:
    """One page of issues; GitHub counts pull requests among them, so a page may be shorter than asked."""

    issues: Sequence[WireIssue]
    pull_requests: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Discussion:
    """An issue and one page of its comments, oldest first."""

    issue: WireIssue
    comments: Sequence[WireComment]
    next_cursor: str | None


class GitHub:
    """Reads repositories, files and issues for a caller."""

    def __init__(self, api: GitHubApi, reach: Reach) -> None:
        self._api = api
        self._reach = reach

    async def repository(self, grant: Grant, owner: str, name: str) -> WireRepository:
        """Return a repository, also under a former name as long as the new one is within reach."""
        ref = self._reach.repository(grant, owner, name)
        reply = await self._api.get(f"repos/{ref}", kind="repository", key=str(ref), follow=True)
        found = _parse(_REPOSITORY.validate_json, reply)
        self._reach.repository(grant, *found.full_name.split("/", 1))
        return found

    async def read_file(
        self, grant: Grant, owner: str, name: str, path: str, ref: str | None
    ) -> TextFile:
        """Return a file as text.

        Raises:
            NotText: it is binary.
            PayloadTooLarge: it is over `MAX_FILE_BYTES`.
            InvalidInput: the path is a directory, a submodule or a link.
        """
        repo = self._reach.repository(grant, owner, name)
        where = f"repos/{repo}/contents/{_quoted(path)}"
        params = {"ref": ref} if ref else {}
        key = f"{path} in {repo}" + (f" at {ref}" if ref else "")
        reply = await self._api.get(where, params, kind="file", key=key)
        entry = _file(_parse(_CONTENT.validate_json, reply), path)
        if entry.encoding == "base64" and entry.content is not None:
            return _text_file(entry, _decoded(entry.content))
        # GitHub leaves out the content of files over 1 MB; the raw media type has it.
        raw = await self._api.get(where, params, kind="file", key=key, accept=RAW)
        return _text_file(entry, raw.body)

    async def issues(
        self,
        grant: Grant,
        owner: str,
        name: str,
        wanted: IssueFilter,
        *,
        limit: int,
        cursor: str | None,
    ) -> IssuePage:
        """Return one page of issues, without the pull requests GitHub mixes in."""
        repo = self._reach.repository(grant, owner, name)
        params = wanted.params() | {"per_page": str(min(limit, 100))}
        question = (str(repo), sorted(params.items()))
        reply = await self._api.get(
            f"repos/{repo}/issues",
            params | _page(cursor, question),
            kind="repository",
            key=str(repo),
        )
        found = _parse(_ISSUES.validate_json, reply)
        issues = [issue for issue in found if issue.pull_request is None]
        return IssuePage(issues, len(found) - len(issues), _next(reply, question))

    async def discussion(
        self,
        grant: Grant,
        owner: str,
        name: str,
        number: int,
        *,
        comments: int,
        cursor: str | None,
    ) -> Discussion:
        """Return an issue and up to `comments` of its comments from `cursor` on; 0 reads none."""
        repo = self._reach.repository(grant, owner, name)
        where, key = f"repos/{repo}/issues/{number}", f"{repo}#{number}"
        issue = _parse(_ISSUE.validate_json, await self._api.get(where, kind="issue", key=key))
        if comments == 0 or issue.comments == 0:
            return Discussion(issue, (), None)
        params = {"per_page": str(min(comments, 100))}
        question = (key, sorted(params.items()))
        reply = await self._api.get(
            f"{where}/comments", params | _page(cursor, question), kind="issue", key=key
        )
        return Discussion(issue, _parse(_COMMENTS.validate_json, reply), _next(reply, question))


def _parse(parser: Callable[[bytes], T], reply: Reply) -> T:
    try:
        return parser(reply.body)
    except ValidationError as exc:
        raise UpstreamFailed("GitHub's answer has an unexpected shape") from exc


def _quoted(path: str) -> str:
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise InvalidInput("path must not have empty, '.' or '..' segments")
    return "/".join(quote(segment, safe="") for segment in segments)


def _file(found: WireContent | list[WireContent], path: str) -> WireContent:
    if isinstance(found, list):
        names = ", ".join(entry.path.rsplit("/", 1)[-1] for entry in found)
        raise InvalidInput(f"{path} is a directory", hint=f"It holds: {clip(visible(names), 2000)}")
    if found.type != "file":
        raise InvalidInput(f"{path} is a {found.type}, not a file")
    if found.size > MAX_FILE_BYTES:
        raise PayloadTooLarge(
            f"{path} has {found.size} bytes; files over {MAX_FILE_BYTES} are not read"
        )
    return found


def _decoded(content: str) -> bytes:
    try:
        return base64.b64decode(content)
    except binascii.Error as exc:
        raise UpstreamFailed("GitHub's answer has an unexpected shape") from exc


def _text_file(entry: WireContent, data: bytes) -> TextFile:
    if b"\0" in data[:_SNIFFED_BYTES]:
        raise NotText(entry.path, len(data))
    text = data.decode("utf-8", errors="replace")
    return TextFile(entry.path, entry.sha, len(data), text, lossy="\ufffd" in text)


def _page(cursor: str | None, question: object) -> dict[str, str]:
    position = cursors.decode(cursor, question)
    return {key: position[key] for key in ("page", "after", "before") if key in position}


def _next(reply: Reply, question: object) -> str | None:
    return cursors.encode(reply.next_page, question) if reply.next_page else None

"""How an issue is shown: rows of a list, the facts of one issue, and its text within the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fleet_common.errors import InvalidInput
from fleet_common.mcp.results import fence
from fleet_devops.answers import MAX_TEXT_CHARS
from fleet_devops.github.models import IssueFacts, WireComment, WireIssue, WireLabel
from fleet_devops.github.service import Discussion
from fleet_devops.text import clip, visible

_TITLE_CHARS = 200
_BODY_CHARS = 8_000


def _untrusted(text: str | None, limit: int) -> str | None:
    return fence(clip(visible(text), limit)) if text else None


def _login(issue: WireIssue | WireComment) -> str | None:
    return issue.user.login if issue.user else None


def _labels(issue: WireIssue) -> list[str]:
    names = [label.name if isinstance(label, WireLabel) else label for label in issue.labels]
    return [visible(name) for name in names]


_COLUMNS: dict[str, Callable[[WireIssue], object]] = {
    "number": lambda issue: issue.number,
    "title": lambda issue: _untrusted(issue.title, _TITLE_CHARS),
    "state": lambda issue: issue.state,
    "author": _login,
    "labels": _labels,
    "assignees": lambda issue: [account.login for account in issue.assignees],
    "comments": lambda issue: issue.comments,
    "updated_at": lambda issue: issue.updated_at,
    "created_at": lambda issue: issue.created_at,
    "closed_at": lambda issue: issue.closed_at,
    "state_reason": lambda issue: issue.state_reason,
    "milestone": lambda issue: visible(issue.milestone.title) if issue.milestone else None,
    "author_association": lambda issue: issue.author_association,
    "url": lambda issue: issue.html_url,
}
_USUAL = tuple(_COLUMNS)[:8]


def columns_of(fields: Sequence[str] | None) -> Sequence[str]:
    """Return the columns to show: those asked for, or the usual ones.

    Raises:
        InvalidInput: there is no such field; the hint names those there are.
    """
    unknown = [name for name in fields or () if name not in _COLUMNS]
    if unknown:
        raise InvalidInput(f"no field {unknown[0]!r}", hint=f"There are: {', '.join(_COLUMNS)}")
    return fields or _USUAL


def row(issue: WireIssue, columns: Sequence[str]) -> list[object]:
    """Return the cells of one issue."""
    return [_COLUMNS[name](issue) for name in columns]


def facts_of(found: Discussion) -> IssueFacts:
    """Return what programs want to know of an issue."""
    issue = found.issue
    cut = len(issue.body or "") > _BODY_CHARS or any(
        len(comment.body or "") > _comment_chars(found) for comment in found.comments
    )
    return IssueFacts(
        number=issue.number,
        state=issue.state,
        state_reason=issue.state_reason,
        is_pull_request=issue.pull_request is not None,
        author=_login(issue),
        author_association=issue.author_association,
        labels=_labels(issue),
        assignees=[account.login for account in issue.assignees],
        milestone=visible(issue.milestone.title) if issue.milestone else None,
        comment_count=issue.comments,
        locked=issue.locked,
        created_at=issue.created_at,
        updated_at=issue.updated_at,
        closed_at=issue.closed_at,
        url=issue.html_url,
        truncated=cut or found.next_cursor is not None,
        next_cursor=found.next_cursor,
    )


def _comment_chars(found: Discussion) -> int:
    """Return each comment's share of what the body leaves of the budget."""
    body = min(len(found.issue.body or ""), _BODY_CHARS)
    return (MAX_TEXT_CHARS - body) // max(len(found.comments), 1)


def text_of(found: Discussion) -> dict[str, object]:
    """Return what a model reads of an issue: others' words fenced, each comment with a fair share."""
    issue = found.issue
    text: dict[str, object] = {
        "number": issue.number,
        "title": _untrusted(issue.title, _TITLE_CHARS),
        "state": issue.state,
        "author": _login(issue),
        "labels": _labels(issue),
        "updated_at": issue.updated_at,
        "body": _untrusted(issue.body, _BODY_CHARS),
    }
    if found.comments:
        text["comments"] = [_comment(one, _comment_chars(found)) for one in found.comments]
    if found.next_cursor:
        text["next_cursor"] = found.next_cursor
    return text


def _comment(comment: WireComment, limit: int) -> dict[str, object]:
    return {
        "author": _login(comment),
        "author_association": comment.author_association,
        "created_at": comment.created_at,
        "body": _untrusted(comment.body, limit),
    }

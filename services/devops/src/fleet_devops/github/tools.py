"""GitHub as a model sees it. What other people wrote comes fenced and without invisible characters.

No argument carries `x-mcp-header`: a 2026-07-28 server must then refuse a call without the `Mcp-Param-*` header,
and a client only sends it for tools it has listed, so a client that calls straight away would fail.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field
from pydantic_core import to_json

from fleet_common.errors import InvalidInput
from fleet_common.mcp import CurrentGrant, touches
from fleet_common.mcp.params import Cursor, Fields, Limit
from fleet_common.mcp.results import TABLE_SCHEMA, fence, table
from fleet_common.policy import Grant
from fleet_devops.answers import MAX_TEXT_CHARS, document, schema_of
from fleet_devops.deps import get_github
from fleet_devops.github.issues import columns_of, facts_of, row, text_of
from fleet_devops.github.lines import cut_lines
from fleet_devops.github.models import (
    FileFacts,
    FilePath,
    IssueFacts,
    IssueNumber,
    IssueState,
    Owner,
    Ref,
    RepoName,
    Repository,
)
from fleet_devops.github.service import GitHub, IssueFilter
from fleet_devops.text import visible

# The answer comes from outside and may differ the next time.
READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)


@tool(title="Repository", meta=touches("untrusted", "private"), annotations=READS, tags={"github"})
async def gh_repo_get(
    owner: Owner,
    repo: RepoName,
    *,
    github: GitHub = Depends(get_github),
    grant: Grant = CurrentGrant(),
) -> Repository:
    """Show a GitHub repository: its default branch, visibility, language, topics and counts.

    Use it first when you know only a name: it also tells the present name of a repository that moved.
    """
    found = await github.repository(grant, owner, repo)
    return Repository(
        full_name=found.full_name,
        description=fence(visible(found.description)) if found.description else None,
        visibility=found.visibility or ("private" if found.private else "public"),
        default_branch=found.default_branch,
        archived=found.archived,
        fork=found.fork,
        language=found.language,
        topics=found.topics,
        license=found.license.spdx_id if found.license else None,
        stars=found.stargazers_count,
        forks=found.forks_count,
        open_issues=found.open_issues_count,
        size_kb=found.size,
        created_at=found.created_at,
        pushed_at=found.pushed_at,
        url=found.html_url,
    )


@tool(
    title="Read a file",
    meta=touches("untrusted", "private"),
    annotations=READS,
    tags={"github"},
    output_schema=schema_of(FileFacts),
)
async def gh_file_read(
    owner: Owner,
    repo: RepoName,
    path: FilePath,
    *,
    ref: Ref = None,
    start_line: Annotated[int, Field(ge=1, description="First line, from 1.")] = 1,
    end_line: Annotated[
        int | None,
        Field(ge=1, description="Last line, else that of the file."),
    ] = None,
    github: GitHub = Depends(get_github),
    grant: Grant = CurrentGrant(),
) -> ToolResult:
    """Read a text file of a GitHub repository, whole or a range of lines.

    Long files come in parts: read on from `next_start_line`.
    """
    file = await github.read_file(grant, owner, repo, path, ref)
    clean = visible(file.text)
    part = cut_lines(clean, start_line, end_line, budget=MAX_TEXT_CHARS)
    facts = FileFacts(
        path=file.path,
        ref=ref,
        sha=file.sha,
        size_bytes=file.size_bytes,
        start_line=part.start,
        end_line=part.end,
        total_lines=part.total,
        truncated=part.truncated,
        next_start_line=part.next_start,
        hidden_characters_removed=len(file.text) - len(clean),
        lossy=file.lossy,
    )
    return document(facts, f"{_file_heading(facts)}\n{fence(part.text)}")


@tool(
    title="List issues",
    meta=touches("untrusted", "private"),
    annotations=READS,
    tags={"github"},
    output_schema=TABLE_SCHEMA,
)
async def gh_issue_list(
    owner: Owner,
    repo: RepoName,
    *,
    state: Annotated[IssueState, Field(description="Which issues.")] = "open",
    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100, pattern="^[^,]+$")]] | None,
        Field(max_length=20, description="All that they carry."),
    ] = None,
    assignee: Annotated[
        str | None,
        Field(
            pattern=r"^(\*|[A-Za-z0-9_-]{1,60}(\[bot\])?)$",
            description="Login; none: nobody, *: anybody.",
        ),
    ] = None,
    since: Annotated[datetime | None, Field(description="Updated since (ISO 8601).")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    fields: Fields = None,
    github: GitHub = Depends(get_github),
    grant: Grant = CurrentGrant(),
) -> ToolResult:
    """List the issues of a GitHub repository, most recently updated first, without pull requests.

    Pages hold at most 100. gh_issue_get has the text.
    """
    columns = columns_of(fields)
    wanted = IssueFilter(state, tuple(labels or ()), assignee, since)
    page = await github.issues(grant, owner, repo, wanted, limit=grant.rows(limit), cursor=cursor)
    return table(
        columns,
        [row(issue, columns) for issue in page.issues],
        truncated=page.next_cursor is not None,
        next_cursor=page.next_cursor,
        note=_left_out(page.pull_requests),
    )


@tool(
    title="Read an issue",
    meta=touches("untrusted", "private"),
    annotations=READS,
    tags={"github"},
    output_schema=schema_of(IssueFacts),
)
async def gh_issue_get(
    owner: Owner,
    repo: RepoName,
    number: IssueNumber,
    *,
    include: Annotated[list[Literal["comments"]] | None, Field(description="What to add.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    github: GitHub = Depends(get_github),
    grant: Grant = CurrentGrant(),
) -> ToolResult:
    """Read one issue of a GitHub repository, with its comments when asked for.

    Comments come oldest first; `limit` and `cursor` page through them.
    """
    wanted = grant.rows(limit) if include and "comments" in include else 0
    if cursor is not None and not wanted:
        raise InvalidInput("cursor pages through comments: repeat include=['comments']")
    found = await github.discussion(grant, owner, repo, number, comments=wanted, cursor=cursor)
    return document(facts_of(found), to_json(text_of(found)).decode())


TOOLS = (gh_repo_get, gh_file_read, gh_issue_list, gh_issue_get)


def _file_heading(facts: FileFacts) -> str:
    where = f"{facts.path}, lines {facts.start_line}-{facts.end_line} of {facts.total_lines}"
    more = f"; go on with start_line={facts.next_start_line}" if facts.next_start_line else ""
    return where + more


def _left_out(pull_requests: int) -> str | None:
    return f"{pull_requests} pull requests on this page left out" if pull_requests else None

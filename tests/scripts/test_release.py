from __future__ import annotations

import pytest

import release

CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n### Added\n\n- A tool.\n\n## 0.1.0 - 2026-01-02\n\n- First.\n"
)


def test_what_was_unreleased_gets_the_version_and_the_day() -> None:
    closed = release.close_section(CHANGELOG, "0.2.0", "2026-02-03")
    assert "## Unreleased\n\n## 0.2.0 - 2026-02-03\n\n### Added\n\n- A tool.\n" in closed
    assert release.notes(closed, "0.2.0") == "### Added\n\n- A tool."


def test_nothing_unreleased_is_no_release() -> None:
    closed = release.close_section(CHANGELOG, "0.2.0", "2026-02-03")
    with pytest.raises(SystemExit, match="no entry"):
        release.close_section(closed, "0.3.0", "2026-03-04")


def test_notes_end_where_the_next_version_begins() -> None:
    assert release.notes(CHANGELOG, "0.1.0") == "- First."


def test_only_the_first_version_line_is_set() -> None:
    text = '[project]\nversion = "0.1.0"\n[tool.x]\nversion = "9"\n'
    assert release.set_version(text, "0.2.0", key="version") == text.replace("0.1.0", "0.2.0")
    assert (
        release.set_version("    newTag: 0.1.0\n", "0.2.0", key="newTag") == "    newTag: 0.2.0\n"
    )

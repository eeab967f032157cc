"""From YAML text to a `Policy`, with every mistake at its line.

The text is trusted no more than any input: it is read without tags, without anchors (a few lines of them can
stand for gigabytes), without a key twice, and only up to a size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

import yaml
from pydantic import ValidationError

from fleet_common.errors import InvalidInput
from fleet_common.policy.models import Policy

MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a policy file; `line` counts from 1, `where` is a dotted path or empty."""

    line: int
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.line}: {f'{self.where}: ' if self.where else ''}{self.what}"


class BadPolicy(InvalidInput):
    """Raised for a policy that cannot be used; `mistakes` says where and why."""

    def __init__(self, name: str, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(f"{name}:{mistake}" for mistake in mistakes))
        self.mistakes = tuple(mistakes)


def parse_policy(text: str, name: str = "policy") -> Policy:
    """Return the policy written in `text`.

    Args:
        text: YAML of at most 256 KiB.
        name: stands before each line number of an error.

    Raises:
        BadPolicy: the text is no policy.
    """
    if len(text.encode()) > MAX_BYTES:
        raise BadPolicy(name, [Mistake(1, "", f"larger than {MAX_BYTES // 1024} KiB")])
    root, plain = _load(text, name)
    if twice := list(_duplicates(root, "")):
        raise BadPolicy(name, twice)
    try:
        return Policy.model_validate(plain)
    except ValidationError as exc:
        problems = exc.errors(include_input=False, include_url=False)
        mistakes = [_mistake(root, problem["loc"], problem["msg"]) for problem in problems]
        raise BadPolicy(name, sorted(mistakes, key=lambda each: each.line)) from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases are not supported", problem_mark=self.get_mark()
            )
        return super().compose_node(parent, index)


def _load(text: str, name: str) -> tuple[yaml.Node, object]:
    """Return the nodes, which know their lines, and the plain values made of them."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            return root, loader.construct_document(root)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise BadPolicy(name, [Mistake(line, "", exc.problem or "not YAML")]) from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        # PyYAML lets a malformed number, date or bool end in Python's own errors.
        raise BadPolicy(name, [Mistake(1, "", "not YAML")]) from None
    raise BadPolicy(name, [Mistake(1, "", "the file is empty")])


def _duplicates(node: yaml.Node, where: str) -> Iterator[Mistake]:
    """Yield every key that a mapping has twice; YAML would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, f"{where}[{index}]")
    if isinstance(node, yaml.MappingNode):
        seen = set[str]()
        for key, value in node.value:
            path = f"{where}.{key.value}" if where else str(key.value)
            if str(key.value) in seen:
                yield Mistake(key.start_mark.line + 1, path, "is there twice")
            seen.add(str(key.value))
            yield from _duplicates(value, path)


def _mistake(root: yaml.Node, loc: Sequence[int | str], message: str) -> Mistake:
    parts = [part for part in loc if part != "[key]"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    what = "unknown key" if message.startswith("Extra inputs") else message
    return Mistake(_line(root, parts), where.removeprefix("."), what)


def line_of(text: str, path: Sequence[int | str]) -> int:
    """Return the line of what is at `path` in a valid policy text, or of the nearest thing round it."""
    return _line(_load(text, "")[0], path)


def _line(node: yaml.Node, path: Sequence[int | str]) -> int:
    """Return the line of what is at `path`, or of the nearest thing round it."""
    line = node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == part]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value)
        ):
            node = node.value[part]
            line = node.start_mark.line + 1
    return int(line)


BUILT_IN = parse_policy((files(__package__) / "default.yaml").read_text("utf-8"), "default.yaml")
"""The policy where no file is configured."""

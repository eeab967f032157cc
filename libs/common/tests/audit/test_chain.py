from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fleet_common.audit.chain import GENESIS, BadRecord, Chain, peek_record, read_record
from fleet_common.audit.events import AuditEvent

KEY = b"k" * 32
Write = Callable[..., list[bytes]]


def test_each_record_names_the_hash_of_the_one_before(write_chain: Write) -> None:
    records = [read_record(line) for line in write_chain(2)]
    assert [record["seq"] for record in records] == [0, 1, 2, 3]
    assert [record["prev"] for record in records] == [GENESIS, *(r["hash"] for r in records[:-1])]
    assert [record["kind"] for record in records] == ["start", "event", "event", "stop"]


@pytest.mark.parametrize("name", ['tool\u2028\n"é', "half a pair \ud800", "\x00\x1f\x7f"])
def test_a_record_is_one_line_of_json_whatever_a_caller_names(
    event: Callable[..., AuditEvent], name: str
) -> None:
    line = Chain(service="data", instance="host:1").event(event(name))
    assert line.splitlines(keepends=True) == [line]
    assert json.loads(line)["target"] == read_record(line)["target"] == name


def test_records_carry_who_wrote_them(write_chain: Write) -> None:
    (record, *_) = [read_record(line) for line in write_chain()]
    assert (record["service"], record["instance"], record["v"]) == ("data", "host:1", 1)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_changed_byte_shows_wherever_it_is(write_chain: Write, key: bytes | None) -> None:
    line = write_chain(1, key=key)[1]
    for place in range(len(line)):
        for other in {line[place] ^ 1, line[place] ^ 0x20, 0x0A, 0x00} - {line[place]}:
            changed = line[:place] + bytes([other]) + line[place + 1 :]
            with pytest.raises(BadRecord):
                read_record(changed, key)


def test_whoever_lacks_the_key_cannot_seal(write_chain: Write) -> None:
    with pytest.raises(BadRecord, match="was changed"):
        read_record(write_chain(1, key=b"another key, which is 32 bytes..")[1], KEY)
    with pytest.raises(BadRecord, match="was changed"):
        read_record(write_chain(1)[1], KEY)


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"null\n", b"\xff\xfe\n", b"[1,2]\n"])
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(BadRecord, match="is not a whole record"):
        read_record(line)
    with pytest.raises(BadRecord, match="is not a whole record"):
        peek_record(line)


def test_a_sealed_line_that_is_no_json_is_refused() -> None:
    with pytest.raises(BadRecord, match="is not JSON"):
        peek_record(b'{"a":oops,"hash":"' + b"0" * 64 + b'"}\n')

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_common.audit import Verdict, verify
from fleet_common.audit.chain import Chain, peek_record
from fleet_common.audit.events import AuditEvent
from fleet_common.digests import sha256_of

Write = Callable[..., list[bytes]]
KEY = b"k" * 32
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def check(lines: Iterable[bytes], **how: object) -> Verdict:
    numbered = ((f"line {number}", line) for number, line in enumerate(lines, start=1))
    return verify(numbered, **how)  # type: ignore[arg-type]


def shows(verdict: Verdict) -> bool:
    """Whether something is amiss; without its last byte, a record looks as if it was being written."""
    return not verdict.ok or verdict.gaps != []


def continued(first: list[bytes], second: Callable[[str], list[bytes]]) -> list[bytes]:
    return [*first, *second(str(peek_record(first[-1])["hash"]))]


@pytest.fixture
def lines(write_chain: Write) -> list[bytes]:
    """Two processes, one after the other, in one file."""
    return continued(write_chain(3), lambda head: write_chain(3, previous=head))


@pytest.mark.parametrize("key", [None, KEY])
def test_an_untouched_log_is_found_whole(write_chain: Write, key: bytes | None) -> None:
    verdict = check(write_chain(5, key=key), key=key)
    assert (verdict.ok, verdict.records, verdict.chains, verdict.gaps) == (True, 7, 1, [])


def test_a_continued_log_is_found_whole(lines: list[bytes]) -> None:
    verdict = check(lines)
    assert (verdict.ok, verdict.records, verdict.chains, verdict.gaps) == (True, 10, 2, [])


def test_the_first_bad_record_is_named(lines: list[bytes]) -> None:
    lines[4] = lines[4].replace(b'"kind":"stop"', b'"kind":"halt"')
    lines[7] = b"gone\n"
    verdict = check(lines)
    assert verdict.problem == "line 5: the record was changed: its hash is not that of its content"
    assert verdict.records == 4


@quick
@given(data=st.data())
def test_any_edit_of_a_byte_is_found(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(lines)
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    changed = whole[:place] + bytes([other]) + whole[place + 1 :]
    assert shows(check(changed.splitlines(keepends=True)))


@quick
@given(data=st.data())
def test_an_inserted_or_removed_byte_is_found(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(lines)
    place = data.draw(st.integers(0, len(whole) - 1))
    more = data.draw(st.binary(max_size=3))
    kept = place if more else place + 1
    assert shows(check((whole[:place] + more + whole[kept:]).splitlines(keepends=True)))


@pytest.mark.parametrize("number", range(9))
def test_a_dropped_record_is_found(lines: list[bytes], number: int) -> None:
    assert not check(lines[:number] + lines[number + 1 :]).ok


def test_a_dropped_tail_looks_like_a_crash_and_is_a_gap(lines: list[bytes]) -> None:
    for kept in range(6, len(lines)):
        verdict = check(lines[:kept])
        assert verdict.ok
        (gap,) = verdict.gaps
        assert "it still runs, was killed, or its end was cut off" in gap


def test_an_end_cut_off_inside_a_record_looks_like_a_crash_and_is_a_gap(
    lines: list[bytes],
) -> None:
    for kept in range(1, len(lines[-1])):
        verdict = check([*lines[:-1], lines[-1][:kept]])
        assert verdict.ok
        (gap,) = verdict.gaps
        assert gap.startswith("line 10 ends in the middle of a record: it is being written")


def test_nothing_may_follow_half_a_record(lines: list[bytes]) -> None:
    verdict = check([*lines[:3], lines[3][:40], *lines[4:]])
    assert verdict.problem == ("line 5: the record follows line 4, which is not a whole record")


def test_a_cut_off_end_shows_against_an_anchor(lines: list[bytes]) -> None:
    anchor = str(peek_record(lines[-1])["hash"])
    assert check(lines, anchors=[anchor]).ok
    # Dropping the whole second process leaves a log that is whole in itself.
    assert check(lines[:5]).gaps == []
    verdict = check(lines[:5], anchors=[anchor])
    assert verdict.problem == f"the record {anchor} is missing: the end was cut off"


@quick
@given(data=st.data())
def test_any_other_order_is_found(lines: list[bytes], data: st.DataObject) -> None:
    mixed = data.draw(st.permutations(lines).filter(lambda them: them != lines))
    assert not check(mixed).ok


@pytest.mark.parametrize("number", range(10))
def test_a_repeated_record_is_found(lines: list[bytes], number: int) -> None:
    assert not check(lines[: number + 1] + lines[number:]).ok


@quick
@given(at=st.integers(0, 10), first=st.integers(0, 4), length=st.integers(1, 5))
def test_records_of_another_chain_are_found(
    lines: list[bytes], write_chain: Write, at: int, first: int, length: int
) -> None:
    foreign = write_chain(3)[first : first + length]
    spliced = check(lines[:at] + foreign + lines[at:])
    assert not spliced.ok


def test_two_halves_of_two_chains_do_not_fit(write_chain: Write) -> None:
    verdict = check(write_chain(3)[:3] + write_chain(3)[3:])
    assert verdict.problem is not None
    assert "belongs to another chain" in verdict.problem


def test_a_chain_cannot_be_swapped_for_another(lines: list[bytes], write_chain: Write) -> None:
    assert not check(write_chain(3) + lines[5:]).ok


def test_a_fork_of_the_same_chain_is_found(event: Callable[..., AuditEvent]) -> None:
    chain = Chain(service="data", instance="host:1")
    begin = [chain.start("file", previous=None), chain.event(event("a"))]
    head = chain.head
    other = chain.event(event("b"))
    chain.seq, chain.head = 2, head
    mine = chain.event(event("c"))
    after = chain.event(event("d"))
    assert check([*begin, mine, after]).ok
    verdict = check([*begin, other, after])
    assert verdict.problem == "line 4: the record does not continue the record before it"


def test_nothing_may_follow_the_closing_record(event: Callable[..., AuditEvent]) -> None:
    chain = Chain(service="data", instance="host:1")
    lines = [chain.start("file", previous=None), chain.stop(), chain.event(event())]
    verdict = check(lines)
    assert verdict.problem == "line 3: the record follows the closing record of its chain"


def test_a_beginning_in_the_middle_must_be_asked_for(lines: list[bytes]) -> None:
    assert (
        check(lines[2:]).problem == "line 1: the record is number 2: what came before it is missing"
    )
    assert check(lines[2:], partial=True).ok
    assert check(lines[5:], partial=True).ok
    assert not check(lines[5:]).ok


def test_a_crash_between_two_processes_is_a_gap(write_chain: Write) -> None:
    crashed = write_chain(3, closed=False)
    verdict = check(continued(crashed, lambda head: write_chain(1, previous=head)))
    assert verdict.ok
    assert len(verdict.gaps) == 1


def test_what_was_lost_or_half_written_is_admitted(event: Callable[..., AuditEvent]) -> None:
    chain = Chain(service="data", instance="host:1")
    lines = [chain.start("file", previous=None, cut_bytes=17), chain.lost(4), chain.stop()]
    verdict = check(lines)
    assert verdict.ok
    assert "17 bytes of a half-written record" in verdict.gaps[0]
    assert "could not keep 4 events before record 1" in verdict.gaps[1]


def test_processes_that_share_a_database_stand_alone(write_chain: Write) -> None:
    rows = write_chain(2, sink="postgres") + write_chain(2, sink="postgres")
    assert check(rows).ok
    assert not check(write_chain(2, sink="file") + write_chain(2, sink="file")).ok


def test_a_chain_of_another_sink_does_not_stand_in_a_file(write_chain: Write) -> None:
    mixed = continued(write_chain(2), lambda head: write_chain(2, sink="stdout"))
    verdict = check(mixed)
    assert verdict.problem == (
        "line 5: the record starts a chain that was written to stdout, among others"
    )


def test_a_keyed_chain_needs_its_key(write_chain: Write) -> None:
    keyed = write_chain(2, key=KEY)
    assert check(keyed).problem == "line 1: the record is keyed: checking it needs the audit key"
    assert not check(keyed, key=b"wrong").ok


def test_a_chain_that_was_made_without_the_key_is_refused_where_there_is_one(
    write_chain: Write,
) -> None:
    assert not check(write_chain(2), key=KEY).ok


def test_a_header_in_the_wrong_place_is_found(write_chain: Write) -> None:
    chain = Chain(service="data", instance="host:1")
    chain.seq = 3
    assert not check([chain.start("file", previous=None)]).ok


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"event"',
        b'{"kind":"event","chain":"a","seq":"0","prev":"b"',
        b'{"kind":["start"],"chain":"a","seq":0,"prev":"b"',
        b'{"kind":"start","chain":null,"seq":0,"prev":"b"',
    ],
)
def test_a_sealed_record_without_the_usual_members_is_no_record(body: bytes) -> None:
    verdict = check([body + b',"hash":"' + sha256_of(body).encode() + b'"}\n'])
    assert verdict.problem == "line 1: the record lacks what every record has"


def test_an_empty_log_is_whole() -> None:
    assert check([]) == Verdict()

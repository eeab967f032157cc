from __future__ import annotations

from fleet_devops.github.cache import Entry, EtagCache
from fleet_devops.github.models import Reply


def entry(size: int = 1000, etag: str = '"1"') -> Entry:
    return Entry(("If-None-Match", etag), Reply(b"x" * size))


def test_the_key_tells_credentials_urls_and_media_types_apart() -> None:
    keys = {
        EtagCache.key(token, url, accept)
        for token in ("t1", "t2")
        for url in ("https://a/1", "https://a/2")
        for accept in ("json", "raw")
    }

    assert len(keys) == 8


def test_the_least_recently_used_answer_goes_first() -> None:
    cache = EtagCache(7_000)
    for key in ("a", "b", "c", "d"):
        cache.put(key, entry())
    cache.get("a")
    cache.put("e", entry())

    assert cache.get("a") is not None
    assert cache.get("b") is None
    assert len(cache) == 4


def test_replacing_an_answer_does_not_count_it_twice() -> None:
    cache = EtagCache(7_000)
    for _ in range(50):
        cache.put("a", entry())
    cache.put("b", entry())

    assert len(cache) == 2


def test_an_answer_too_large_to_share_the_memory_is_not_kept_and_drops_the_old_one() -> None:
    cache = EtagCache(7_000)
    cache.put("a", entry(etag='"old"'))
    cache.put("a", entry(size=6_000, etag='"new"'))

    assert cache.get("a") is None


def test_no_memory_keeps_nothing() -> None:
    cache = EtagCache(0)
    cache.put("a", entry(size=1))

    assert len(cache) == 0

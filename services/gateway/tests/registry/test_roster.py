from __future__ import annotations

from functools import partial

import pytest

from fleet_common.auth import Principal
from fleet_common.errors import Unavailable
from fleet_common.metrics import Metrics
from fleet_gateway.balancing.models import Address
from fleet_gateway.balancing.service import Pool, PoolMetrics, PoolOptions
from fleet_gateway.cluster.models import Found
from fleet_gateway.lists.models import Page
from fleet_gateway.registry.models import Catalogue
from fleet_gateway.registry.roster import Roster

ONE, TWO = Address("http://10.0.0.1:8081", "a:80"), Address("http://10.0.0.2:8081", "a:80")


async def nothing(_method: str, _who: Principal) -> Page:
    raise Unavailable("the service")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def roster(told: list[str]) -> Roster:
    """Knows `data` from the configuration."""
    pool = partial(Pool, metrics=PoolMetrics(Metrics("gateway")), options=PoolOptions())
    return Roster(
        {"data": pool("data", ("http://10.9.9.9:1",))},
        {"data": nothing},
        Catalogue(["data"]),
        [("crm_*", "data")],
        create_pool=lambda name: pool(name, ()),
        create_source=lambda _name: nothing,
        on_join=[lambda name: told.append(f"+{name}")],
        on_leave=[lambda name: told.append(f"-{name}")],
    )


def test_services_of_the_cluster_come_and_go(roster: Roster, told: list[str]) -> None:
    roster.apply({"aiml": Found({ONE: "a", TWO: "b"}, "1.0", ("llm_*",))})
    pool = roster.pools["aiml"]
    assert [each.address for each in pool.endpoints] == [ONE, TWO]
    assert pool.zones == {"a": 1, "b": 1}
    assert roster.fallbacks == [("crm_*", "data"), ("llm_*", "aiml")]
    assert roster.catalogue.services["aiml"].labelled_version == "1.0"
    pool.endpoints[1].in_flight = 3
    roster.apply({"aiml": Found({TWO: "b"})})
    assert [each.in_flight for each in pool.endpoints] == [3]
    roster.apply({})
    assert told == ["+aiml", "-aiml"]
    assert set(roster.pools) == set(roster.sources) == set(roster.catalogue.services) == {"data"}
    assert roster.fallbacks == [("crm_*", "data")]
    assert pool.endpoints == []


def test_what_is_configured_stays_as_configured(
    roster: Roster, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        roster.apply({"data": Found({ONE: ""}, "9", ("*",))})
    assert roster.pools["data"].endpoints == []  # DNS fills it
    assert roster.fallbacks == [("crm_*", "data")]
    assert told == []
    assert capsys.readouterr().err.count("service_labels_passed_over") == 1

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable

import pytest

from fleet_cli.errors import BadInput, PortTaken
from fleet_cli.ports import free_base, is_free, plan_ports, require_free, shortened

Eventually = Callable[..., None]


def test_all_ports_follow_from_the_gateways() -> None:
    ports = plan_ports(9000, {})

    assert [ports[name] for name in ("gateway", "data", "devops", "aiml")] == [
        *(9000, 9001, 9002, 9003)
    ]
    assert (ports["postgres"], ports["valkey"]) == (9005, 9006)
    assert ports.url("data") == "http://127.0.0.1:9001/mcp"


def test_a_port_the_user_has_set_wins() -> None:
    assert plan_ports(9000, {"FLEET_DATA_PORT": "7777"})["data"] == 7777


@pytest.mark.parametrize("chosen", ["x", "-1", "0", "65536", "²"])
def test_a_port_that_is_none_is_refused_by_its_variable(chosen: str) -> None:
    with pytest.raises(BadInput, match="FLEET_AIML_PORT"):
        plan_ports(9000, {"FLEET_AIML_PORT": chosen})


@pytest.mark.parametrize("base", [0, -5, 65530])
def test_a_base_without_room_above_it_is_refused(base: int) -> None:
    with pytest.raises(BadInput, match="leaves no room"):
        plan_ports(base, {})


def test_two_processes_never_get_one_port() -> None:
    with pytest.raises(BadInput, match="gateway and data cannot both listen on 9000"):
        plan_ports(9000, {"FLEET_DATA_PORT": "9000"})


def test_a_taken_port_is_named_with_its_holder_and_a_way_out(
    port_holder: subprocess.Popen[bytes], eventually: Eventually
) -> None:
    port = int(str(port_holder.args[-1]))  # type: ignore[index]  # a list: see the fixture
    eventually(lambda: not is_free(port))

    with pytest.raises(PortTaken) as caught:
        require_free([port], base=8080)

    told = str(caught.value)
    assert f"{port} is held by" in told
    assert f"(pid {port_holder.pid})" in told
    assert "http.server" in told
    assert "fleet run --port-base" in told


def test_free_ports_are_no_problem(port_base: int) -> None:
    require_free([port_base, port_base + 1], base=port_base)


def test_the_offered_base_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        base = free_base(taken.getsockname()[1] - 100)

        assert base != taken.getsockname()[1]
        assert is_free(base)


def test_a_long_command_is_cut() -> None:
    assert shortened("x" * 200, 10) == "x" * 9 + "…"
    assert shortened("short", 10) == "short"

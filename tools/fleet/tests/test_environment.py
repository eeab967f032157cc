from __future__ import annotations

from pathlib import Path

import pytest

from fleet_cli.environment import Environment
from fleet_cli.ports import SERVICES, plan_ports
from fleet_cli.secrets import ensure_secrets
from fleet_cli.state import State


def environment(state: State, **user: str) -> Environment:
    return Environment(state, plan_ports(9000, user), ensure_secrets(state), user)


def test_a_service_is_told_its_port_its_keys_and_who_may_speak_for_others(state: State) -> None:
    told = environment(state).of("devops")

    assert told["FLEET_DEVOPS_PORT"] == "9002"
    assert told["FLEET_DEVOPS_HOST"] == "127.0.0.1"
    assert told["FLEET_DEVOPS_KEYS_FILE"] == str(state.keys_file)
    assert told["FLEET_DEVOPS_INTERNAL_PUBLIC_KEY_FILE"] == str(state.public_key_file)


def test_the_gateway_knows_the_services_and_no_database(state: State) -> None:
    told = environment(state).of("gateway")

    assert told["FLEET_GATEWAY_SERVICES"].startswith("data=http://127.0.0.1:9001,")
    assert told["FLEET_GATEWAY_INTERNAL_PRIVATE_KEY_FILE"] == str(state.private_key_file)
    assert not any("DATABASE" in name or "postgresql://" in told[name] for name in told)


def test_the_owner_of_the_database_is_known_to_migrations_only(state: State) -> None:
    told = environment(state)

    assert "FLEET_DATA_MIGRATOR_URL" not in told.of("data")
    assert told.for_migration()["FLEET_DATA_MIGRATOR_URL"].startswith("postgresql://postgres:")
    assert told.of("data")["FLEET_DATA_DATABASE_URL"].startswith("postgresql://crm_writer:")
    assert told.of("data")["FLEET_DATA_READER_URL"].startswith("postgresql://crm_reader:")


def test_what_the_user_has_set_wins_and_reaches_its_service_only(state: State) -> None:
    told = environment(
        state, FLEET_DEVOPS_GITHUB_TOKEN="secret", FLEET_DEVOPS_LOG_FORMAT="json", HOME="/home/me"
    )

    assert told.of("devops")["FLEET_DEVOPS_GITHUB_TOKEN"] == "secret"
    assert told.of("devops")["FLEET_DEVOPS_LOG_FORMAT"] == "json"
    assert "FLEET_DEVOPS_GITHUB_TOKEN" not in told.of("aiml")
    assert told.of("aiml")["HOME"] == "/home/me"


def test_a_database_of_the_users_replaces_ours(state: State) -> None:
    own = environment(state, FLEET_DATA_DATABASE_URL="postgresql://db/crm")

    assert not own.embeds_postgres
    assert own.migrator_url is None
    assert "FLEET_DATA_MIGRATOR_URL" not in own.for_migration()
    assert own.of("data")["FLEET_DATA_DATABASE_URL"] == "postgresql://db/crm"
    assert "FLEET_DATA_READER_URL" not in own.of("data")
    assert environment(state).embeds_postgres


def test_a_users_own_migrator_reaches_migrations_only(state: State) -> None:
    urls = {
        "FLEET_DATA_DATABASE_URL": "postgresql://db/crm",
        "FLEET_DATA_MIGRATOR_URL": "postgresql://owner@db/crm",
    }
    own = environment(state, **urls)

    assert "FLEET_DATA_MIGRATOR_URL" not in own.of("data")
    assert own.for_migration()["FLEET_DATA_MIGRATOR_URL"] == "postgresql://owner@db/crm"


def test_a_redis_of_the_users_replaces_ours(state: State) -> None:
    own = environment(state, FLEET_REDIS_URL="redis://cache:6379/0")

    assert not own.embeds_valkey
    assert own.of("data")["FLEET_DATA_REDIS_URL"] == "redis://cache:6379/0"
    assert environment(state).of("data")["FLEET_DATA_REDIS_URL"].endswith("@127.0.0.1:9006/0")


def test_a_qdrant_of_the_users_replaces_the_embedded_store(state: State) -> None:
    assert environment(state).of("aiml")["FLEET_AIML_VECTOR_PATH"] == str(state.path / "vectors")

    own = environment(state, FLEET_AIML_QDRANT_URL="http://qdrant:6333")

    assert "FLEET_AIML_VECTOR_PATH" not in own.of("aiml")


def test_every_service_is_told_the_projects_policy(state: State) -> None:
    assert "FLEET_DATA_POLICY_FILE" not in environment(state).of("data")
    path = state.project / "fleet-policy.yaml"
    path.write_text("version: 1\n")

    told = environment(state)

    for service in SERVICES:
        assert told.of(service)[f"FLEET_{service.upper()}_POLICY_FILE"] == str(path)


def test_a_policy_the_user_names_wins_and_may_be_relative(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state.project / "fleet-policy.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)

    told = environment(state, FLEET_POLICY_FILE="mine.yaml").of("aiml")

    assert told["FLEET_AIML_POLICY_FILE"] == str(tmp_path / "mine.yaml")


def test_every_process_seals_approvals_alike_and_knows_where_people_approve(state: State) -> None:
    own = environment(state)
    told = [own.of(name) for name in ("gateway", "data", "devops", "aiml")]
    keys = {value for each in told for name, value in each.items() if "APPROVALS_KEY" in name}
    urls = {value for each in told for name, value in each.items() if "APPROVE_URL" in name}
    assert keys == {own.secrets.approvals_key}
    assert urls == {"http://127.0.0.1:9000/approve"}

from __future__ import annotations

from fleet_devops.cluster.redaction import presentable

SECRET = {
    "kind": "Secret",
    "metadata": {"name": "s"},
    "data": {"a": "MQ==", "b": "MQ==", "c": "Mg=="},
    "stringData": {"d": "1"},
}


def test_equal_values_look_equal_and_others_do_not() -> None:
    data = presentable(SECRET, b"key")["data"]

    assert data["a"] == data["b"] != data["c"]


def test_a_digest_cannot_be_computed_without_the_key() -> None:
    assert presentable(SECRET, b"one")["data"] != presentable(SECRET, b"two")["data"]


def test_text_that_was_written_but_not_yet_encoded_is_covered_too() -> None:
    assert presentable(SECRET, b"key")["stringData"]["d"].startswith("hmac-sha256:")


def test_the_object_itself_is_not_changed() -> None:
    presentable(SECRET, b"key")

    assert SECRET["data"] == {"a": "MQ==", "b": "MQ==", "c": "Mg=="}


def test_other_kinds_keep_their_data() -> None:
    found = presentable({"kind": "ConfigMap", "data": {"a": "1"}}, b"key")

    assert found["data"] == {"a": "1"}

from __future__ import annotations

import pytest

from fleet_common.settings import SettingsError, describe
from fleet_devops.settings import DevopsSettings


def test_nothing_has_to_be_set() -> None:
    settings = DevopsSettings.read({})

    assert settings.port == 8082
    assert settings.github_api_url == "https://api.github.com"
    assert settings.github_repos == ("*/*",)
    assert settings.kubeconfig is None


def test_lists_are_written_with_commas() -> None:
    settings = DevopsSettings.read({"FLEET_DEVOPS_GITHUB_REPOS": "acme/*, other/one"})

    assert settings.github_repos == ("acme/*", "other/one")


def test_a_url_of_another_scheme_names_its_variable() -> None:
    with pytest.raises(SettingsError, match="FLEET_DEVOPS_PROMETHEUS_URL"):
        DevopsSettings.read({"FLEET_DEVOPS_PROMETHEUS_URL": "file:///etc/passwd"})


def test_secrets_are_masked() -> None:
    settings = DevopsSettings.read({"FLEET_DEVOPS_GITHUB_TOKEN": "ghp_abc"})

    assert "ghp_abc" not in repr(settings)
    assert all("ghp_abc" not in row.value for row in describe(settings))

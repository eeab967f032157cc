"""Fixtures every package's tests may use: real engines, and principals to call tools as."""

pytest_plugins = ("fleet_cli.testing", "fleet_common.testing.plugin")

"""What the tests of every package share: principals by role, and a real HTTP server for an ASGI app."""

from fleet_common.testing.http import serving
from fleet_common.testing.principals import admin, granted, principal, viewer
from fleet_common.testing.waiting import wait_until

__all__ = ["admin", "granted", "principal", "serving", "viewer", "wait_until"]

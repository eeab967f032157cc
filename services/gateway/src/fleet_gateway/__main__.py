"""`python -m fleet_gateway VERB`."""

from __future__ import annotations

import sys

from fleet_common.mcp.run import run
from fleet_gateway.server import SERVICE, create_gateway

if __name__ == "__main__":
    sys.exit(run(SERVICE, app_factory=create_gateway))

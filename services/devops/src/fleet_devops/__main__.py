"""`python -m fleet_devops serve|stdio|config`."""

from __future__ import annotations

import sys

from fleet_common.mcp.run import run
from fleet_devops.server import SERVICE

if __name__ == "__main__":
    sys.exit(run(SERVICE, sys.argv[1:]))

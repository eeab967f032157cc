"""`python -m fleet_data serve|stdio|config|migrate|seed|tenant`."""

from __future__ import annotations

import sys

from fleet_common.mcp.run import run
from fleet_data.server import SERVICE

if __name__ == "__main__":
    sys.exit(run(SERVICE))

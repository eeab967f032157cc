"""`python -m fleet_aiml serve|stdio|config`."""

import sys

from fleet_aiml.server import SERVICE
from fleet_common.mcp.run import run

if __name__ == "__main__":
    sys.exit(run(SERVICE))

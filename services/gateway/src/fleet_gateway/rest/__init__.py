"""The tools as plain HTTP: `POST /api/tools/{name}`."""

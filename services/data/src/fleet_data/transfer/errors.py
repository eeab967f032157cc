"""What can go wrong with a file.

InvalidInput
└── PayloadTooLarge
    └── TransferTooLarge    more rows or bytes than the caller's roles allow
NotFound
└── LinkGone                the file was there once: expired, deleted or cancelled
FolderFull                  no room is left in the folder
"""

from __future__ import annotations

from fleet_common.errors import FleetError, NotFound, PayloadTooLarge


class TransferTooLarge(PayloadTooLarge):
    """Raised when a file would have more rows or bytes than it may."""


class LinkGone(NotFound):
    """Raised for a link whose time is over, or whose file was deleted."""

    code = "gone"
    http_status = 410

    def __init__(self) -> None:
        super().__init__("file", "behind this link", hint="Make a new one")


class FolderFull(FleetError):
    """Raised when the folder for files takes no more; nothing of the file is left."""

    code = "folder_full"
    http_status = 507
    jsonrpc_code = 507

    def __init__(self) -> None:
        super().__init__("the folder for files is full", hint="An operator must make room")

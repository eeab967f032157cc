"""The emulated Gmail answers Google's own client as Gmail does: fields, paths and errors are not of our invention."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials

# Google's libraries carry no types.
from googleapiclient.discovery import build  # type: ignore[import-untyped]
from googleapiclient.errors import HttpError  # type: ignore[import-untyped]

RAW = b"From: a@example.com\r\nTo: b@example.com\r\nMessage-ID: <1@x>\r\nList-Unsubscribe: <u>\r\n\r\nHello"


def client_of(url: str, token: str) -> Any:
    options = {"api_endpoint": url}
    credentials = Credentials(token)  # type: ignore[no-untyped-call]
    return build("gmail", "v1", credentials=credentials, client_options=options)


def reason_of(failure: HttpError) -> str:
    return str(json.loads(failure.content)["error"]["errors"][0]["reason"])


def test_googles_own_client_works_with_it(gmail_url: str) -> None:
    with client_of(gmail_url, "official") as gmail:
        drafts, messages = gmail.users().drafts(), gmail.users().messages()
        message = {"raw": base64.urlsafe_b64encode(RAW).decode()}
        draft = drafts.create(userId="me", body={"message": message}).execute()
        listed = drafts.list(userId="me", q="rfc822msgid:1@x").execute()
        assert [each["id"] for each in listed["drafts"]] == [draft["id"]]
        sent = drafts.send(userId="me", body={"id": draft["id"]}).execute()
        assert sent["labelIds"] == ["SENT"]
        with pytest.raises(HttpError) as gone:
            drafts.send(userId="me", body={"id": draft["id"]}).execute()
        assert (gone.value.status_code, reason_of(gone.value)) == (404, "notFound")
        messages.send(userId="me", body=message).execute()
        found = messages.list(userId="me", q="hello", maxResults=1).execute()["messages"]
        read = messages.get(
            userId="me", id=found[0]["id"], format="metadata", metadataHeaders=["List-Unsubscribe"]
        ).execute()
        assert read["payload"]["headers"] == [{"name": "List-Unsubscribe", "value": "<u>"}]
        history = gmail.users().history().list(userId="me", startHistoryId="1").execute()
        assert len(history["history"]) == 1


def test_it_refuses_a_revoked_token_as_gmail_does(gmail_url: str) -> None:
    # Google's client answers a 401 by asking for a new token, which this one cannot.
    with client_of(gmail_url, "revoked") as gmail, pytest.raises(RefreshError):
        gmail.users().messages().list(userId="me").execute()

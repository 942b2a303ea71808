"""What the database knows of events that the broker does not have yet."""

from typing import Any

from pymongo import MongoClient


class StoredEvents:
    """Of one stack's database; `close` it."""

    def __init__(self, uri: str, database: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self._database = self._client[database]

    def message_ids(self) -> set[str]:
        """All messages that are stored, delivered ones too."""
        return {found["_id"] for found in self._database["messages"].find({}, {"_id": 1})}

    def left(self) -> int:
        """Messages with events that the broker has not confirmed, and such events of the services."""
        of_mail = self._database["messages"].count_documents({"pending_events": {"$ne": []}})
        return of_mail + self._database["outbox"].count_documents({"state": "pending"})

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

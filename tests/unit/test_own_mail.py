"""Mail that another service puts into the queue has the form that the edge gives to its own."""

from datetime import UTC, datetime, timedelta

from postern_common.addresses import parse_address
from postern_common.own_mail import OwnMail, documents
from postern_edge.bodies.store import stored_documents
from postern_edge.interfaces import AcceptedRecipient
from postern_edge.messages import Lease, Terms, new_entry
from tests.servers.edge_inside import message

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def test_the_documents_have_the_fields_of_the_edges_own_notifications():
    mail = OwnMail(
        recipient=parse_address("tls@acme.test"),
        subject="A report",
        message_id="<1@postern.test>",
        body=b"Subject: A report\r\n\r\n" + b"Text.\r\n" * 20_000,  # too large to lie in the message itself
        lifetime=timedelta(days=1),
        service="dns-verifier",
        why="a report",
        tls_waived=True,
    )
    stored, body = documents(mail, NOW)
    recipient = AcceptedRecipient("tls@acme.test", "tls@acme.test", "postern", None, ("NEVER",))
    accepted = message([recipient], sender="", body=mail.body, subject="A report", message_id="<1@postern.test>")
    terms = Terms(NOW, Lease(None, None), timedelta(days=1))
    entry = new_entry(accepted, "msg_1", "postern", [recipient], terms, "dsn")
    own = entry.document
    [own_body], _ = stored_documents([entry])
    assert set(stored) - {"tls_waived"} == set(own)
    assert set(stored["recipients"][0]) == set(own["recipients"][0])
    assert set(stored["steps"][0]) == set(own["steps"][0])
    told_apart = {"_id", "queue_id", "peer_ip", "helo", "received_at", "steps"}  # of its own, or of where it came from
    unpublished = {"dispatch", "dispatch_after", "pending_events"}  # nothing was received, so nothing tells of that
    for field in set(own) - told_apart - unpublished:
        assert stored[field] == own[field], field
    assert set(body) == set(own_body)
    assert body["_id"] == stored["_id"]

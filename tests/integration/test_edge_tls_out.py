"""TLS to next hops: used where it is offered, and where it is required only to the server that was meant (SPEC R11)."""

import pytest
import trustme

from tests.servers.authority import authority, serving  # noqa: F401
from tests.servers.edge_inside import InsideEdge, deferred, edge, message, server, settled  # noqa: F401
from tests.servers.smtp_fake import FakeHop, hop  # noqa: F401


async def delivered(edge, hop, mode):
    await edge.seed(server(hop, tls=mode))
    await edge.start()
    await edge.edge.spool.accept(message())
    await settled(edge)
    return hop.messages[0]


@pytest.mark.spec("R11")
async def test_opportunistic_tls_encrypts_whoever_vouches_for_the_server(edge, hop):
    hop.tls = serving(trustme.CA(), "other-name.test")
    assert (await delivered(edge, hop, "opportunistic")).secure


@pytest.mark.spec("R11")
async def test_required_tls_delivers_where_the_certificate_names_the_server(edge, hop, authority):
    hop.tls = serving(authority, "127.0.0.1")
    assert (await delivered(edge, hop, "required")).secure


@pytest.mark.spec("R11")
@pytest.mark.parametrize(
    "known,name,reason",
    [
        (True, "other-name.test", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        (True, "127.0.0.9", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        (False, "127.0.0.1", "self-signed certificate in certificate chain"),
    ],
)
async def test_required_tls_waits_where_the_certificate_does_not_and_says_why(
    edge, hop, authority, known, name, reason
):
    hop.tls = serving(authority if known else trustme.CA(), name)
    await edge.seed(server(hop, tls="required"))
    await edge.start()
    await edge.edge.spool.accept(message())
    found = await deferred(edge)
    assert found["recipients"][0]["reply"] == f"the mail server's certificate is not valid: {reason}"
    assert hop.count("MAIL") == 0

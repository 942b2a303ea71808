"""Microsoft's sign-in service and Graph as one HTTPS server with moods: throttling, links that expire, withdrawals.

It serves real clients, so tokens, pages, delta links and batches have the forms of the real ones. Each answer goes
through the faults first: `fake.fail("/users/delta", 503, after=2, times=9)`.
"""

import json
import ssl
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlsplit

import jwt
import trustme

from tests.servers.graph_filters import fits

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "99999999-8888-7777-6666-555555555555"
SECRET = "abcdefgh"
ROLES = ("Directory.Read.All", "User.Read.All", "Group.Read.All", "GroupMember.Read.All")
_NEEDS = {"users": "User.Read.All", "groups": "Group.Read.All", "directoryRoles": "Directory.Read.All"}


def user(number: int | str, domain: str = "example.test", **properties: Any) -> dict[str, Any]:
    """A person of the tenant."""
    address = f"u{number}@{domain}"
    return {
        "id": f"id-{number}", "userPrincipalName": address, "mail": address, "accountEnabled": True,
        "proxyAddresses": [f"SMTP:{address}", f"smtp:u{number}@example.onmicrosoft.com"], "givenName": "Ann",
        "surname": f"Lee {number}", "userType": "Member", **properties,
    }  # fmt: skip


def group(name: str, domain: str = "example.test", **properties: Any) -> dict[str, Any]:
    """A distribution list."""
    address = f"{name}@{domain}"
    return {
        "id": f"id-{name}", "displayName": name, "mail": address, "proxyAddresses": [f"SMTP:{address}"],
        "mailEnabled": True, "securityEnabled": False, "groupTypes": [], **properties,
    }  # fmt: skip


@dataclass
class Fault:
    """An answer in place of the right one, for requests whose path begins so."""

    path: str
    status: int
    headers: dict[str, str]
    body: Any
    after: int
    times: int


@dataclass
class GraphFake:
    """What the tenant has, and how it answers."""

    url: str = ""
    page_size: int = 2
    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"users": {}, "groups": {}})
    members: dict[str, list[str]] = field(default_factory=dict)
    journal: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    roles: tuple[str, ...] = ROLES
    secret: str | None = SECRET
    certificate: bytes | None = None
    secrets: list[dict[str, Any]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    empty_pages: bool = False
    repeats: bool = False
    oldest: int = 0
    expires_by: str = "gone"
    elsewhere: str | None = None
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    issued: int = 0
    good_from: int = 1
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    # --- what happens in the tenant ---

    def add(self, kind: str, *found: dict[str, Any]) -> None:
        """Create objects, or restore them."""
        for one in found:
            self.objects[kind][one["id"]] = dict(one)
            self.journal.append((kind, dict(one)))

    def change(self, kind: str, key: str, **properties: Any) -> None:
        """Change an object; the journal has what changed alone."""
        self.objects[kind][key].update(properties)
        self.journal.append((kind, {"id": key, **properties}))

    def remove(self, kind: str, key: str, reason: str = "changed", *, is_told: bool = True) -> None:
        """Delete an object; Graph may forget to tell."""
        self.objects[kind].pop(key, None)
        if is_told:
            self.journal.append((kind, {"id": key, "@removed": {"reason": reason}}))

    def join(self, group_id: str, *members: str) -> None:
        """Put members into a group."""
        self.members.setdefault(group_id, []).extend(members)
        told = [{"@odata.type": "#microsoft.graph.user", "id": one} for one in members]
        self.journal.append(("groups", {"id": group_id, "members@delta": told}))

    def leave(self, group_id: str, member: str) -> None:
        """Take a member out of a group."""
        self.members[group_id].remove(member)
        told = {"@odata.type": "#microsoft.graph.user", "id": member, "@removed": {"reason": "deleted"}}
        self.journal.append(("groups", {"id": group_id, "members@delta": [told]}))

    # --- how it answers ---

    def fail(
        self, path: str, status: int, *, after: int = 0, times: int = 1, code: str = "", **headers: str
    ) -> None:  # fmt: skip
        """Fail so many requests, after some that are answered. Status 0 hangs up."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"error": {"code": code or f"error{status}", "message": "It is not to be."}}
        self.faults.append(Fault(path, status, named, body, after, times))

    def revoke(self) -> None:
        """Refuse all tokens so far."""
        self.good_from = self.issued + 1

    def expire(self, by: str = "gone") -> None:
        """Forget all links so far; tell by 410 or by `syncStateNotFound`."""
        self.oldest, self.expires_by = len(self.journal), by

    def paths(self, start: str = "") -> list[str]:
        """What was asked for, without the base."""
        return [path for _, path, _ in self.asked if path.startswith(start)]

    def fault(self, path: str) -> Fault | None:
        """The fault that this request meets."""
        for fault in self.faults:
            if not path.startswith(fault.path) or not fault.times:
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            return fault
        return None

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """Graph's answer."""
        kind = path.split("/")[1]
        if kind in _NEEDS and _NEEDS[kind] not in self.roles:
            return _refused()
        if path in {"/users/delta", "/groups/delta"}:
            return self._delta(kind, query)
        if path in {"/users", "/groups"}:
            return self._list(kind, query, headers)
        if path.startswith("/users/"):
            return self._one(unquote(path.removeprefix("/users/")))
        if path.endswith("/members"):
            return (200, {"value": []}) if "GroupMember.Read.All" in self.roles else _refused()
        if path == "/directoryRoles":
            return 200, {"value": []}
        if path == "/$batch":
            return 200, {"responses": [self._batched(one) for one in body["requests"]]}
        if path.startswith("/applications"):
            return 200, {"passwordCredentials": self.secrets}
        return 404, {"error": {"code": "Request_ResourceNotFound", "message": path}}

    def _one(self, key: str) -> tuple[int, Any]:
        found = self.objects["users"].get(key)
        if found is None:
            return 404, {"error": {"code": "Request_ResourceNotFound", "message": key}}
        return 200, _set(found)

    def _batched(self, one: dict[str, Any]) -> dict[str, Any]:
        path = urlsplit(one["url"]).path
        fault = self.fault("/$batch" + path)
        status, body = (fault.status, fault.body) if fault else self._one(path.removeprefix("/users/"))
        return {"id": one["id"], "status": status, "headers": fault.headers if fault else {}, "body": body}

    def _list(self, kind: str, query: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
        text = query.get("$filter", "")
        if text and headers.get("consistencylevel") != "eventual":
            return 400, {"error": {"code": "Request_UnsupportedQuery", "message": "Unsupported query."}}
        try:
            found = [one for key, one in self.objects[kind].items() if key not in self.hidden and fits(one, text)]
        except ValueError:
            return 400, {"error": {"code": "BadRequest", "message": "Invalid filter clause: Syntax error."}}
        start, size = int(query.get("$skiptoken", "0")), min(int(query.get("$top", "100")), self.page_size)
        page: dict[str, Any] = {"value": [_set(one) for one in found[start : start + size]], "@odata.count": len(found)}
        if start + size < len(found):
            kept = {name: value for name, value in query.items() if name != "$skiptoken"}
            page["@odata.nextLink"] = self._link(f"/{kind}", {**kept, "$skiptoken": str(start + size)})
        return 200, page

    def _delta(self, kind: str, query: dict[str, str]) -> tuple[int, Any]:
        if "$select" in query:
            begin, end, offset = -1, len(self.journal), 0
        else:
            begin, end, offset = (int(part) for part in query["$token"].split("."))
        if 0 <= begin < self.oldest or 0 <= end < self.oldest:
            return self._expired(kind)
        if end < 0:
            end = len(self.journal)
        found = (
            [*self.objects[kind].values()] if begin < 0 else [one for of, one in self.journal[begin:end] if of == kind]
        )
        show = self._whole if begin < 0 else dict
        page: dict[str, Any] = {"value": [show(one) for one in found[offset : offset + self.page_size]]}
        if self.repeats and offset:
            page["value"] = [*reversed(page["value"]), show(found[offset - 1])]
        following = offset + self.page_size
        if self.empty_pages and offset % 1000 != 999 and query.get("empty") != "1":
            page = {"value": []}
            page["@odata.nextLink"] = self._link(f"/{kind}/delta", {"$token": f"{begin}.{end}.{offset}", "empty": "1"})
        elif following < len(found):
            page["@odata.nextLink"] = self._link(f"/{kind}/delta", {"$token": f"{begin}.{end}.{following}"})
        else:
            page["@odata.deltaLink"] = self._link(f"/{kind}/delta", {"$token": f"{end}.-1.0"})
        if self.elsewhere and "@odata.nextLink" in page:
            page["@odata.nextLink"] = page["@odata.nextLink"].replace(self.url, self.elsewhere)
        return 200, page

    def _expired(self, kind: str) -> tuple[int, Any]:
        if self.expires_by == "gone":
            return 410, {"error": {"code": "resyncRequired", "message": "Resync required."}}
        return 400, {"error": {"code": "syncStateNotFound", "message": "The sync state generation is not found."}}

    def _whole(self, found: dict[str, Any]) -> dict[str, Any]:
        told = [{"@odata.type": "#microsoft.graph.user", "id": key} for key in self.members.get(found["id"], ())]
        return _set(found) | ({"members@delta": told} if told else {})

    def _link(self, path: str, query: dict[str, str]) -> str:
        return f"{self.url}/v1.0{path}?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())

    def sign_in(self, form: dict[str, str]) -> tuple[int, Any]:
        """The token endpoint's answer."""
        if form["scope"] != "https://graph.microsoft.com/.default":
            return 400, _aadsts(70011, "invalid_scope")
        if form["client_id"] != CLIENT:
            return 400, _aadsts(700016, "unauthorized_client")
        if "client_assertion" in form:
            try:
                jwt.decode(
                    form["client_assertion"], self._public_key(), algorithms=["PS256"], options={"verify_aud": False}
                )
            except jwt.PyJWTError:
                return 401, _aadsts(700027, "invalid_client")
        elif form.get("client_secret") != self.secret:
            return 401, _aadsts(7000215, "invalid_client")
        self.issued += 1
        claims = {"aud": "https://graph.microsoft.com", "roles": list(self.roles), "number": self.issued}
        token = ".".join(
            urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b"{}", json.dumps(claims).encode(), b"signature")
        )
        return 200, {"token_type": "Bearer", "expires_in": 3599, "access_token": token}

    def _public_key(self) -> Any:
        from cryptography.x509 import load_pem_x509_certificate

        return load_pem_x509_certificate(self.certificate).public_key() if self.certificate else "none"

    def is_good(self, headers: dict[str, str]) -> bool:
        """Whether a request brings a token that counts."""
        try:
            part = headers["authorization"].removeprefix("Bearer ").split(".")[1]
            number = json.loads(_decoded(part))["number"]
        except (KeyError, IndexError, ValueError):
            return False
        return number >= self.good_from


def _decoded(part: str) -> bytes:
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _set(found: dict[str, Any]) -> dict[str, Any]:
    """What Graph says of an object: properties that were never set are left out."""
    return {name: value for name, value in found.items() if value is not None}


def _refused() -> tuple[int, Any]:
    message = "Insufficient privileges to complete the operation."
    return 403, {"error": {"code": "Authorization_RequestDenied", "message": message}}


def _aadsts(code: int, error: str) -> dict[str, Any]:
    return {"error": error, "error_description": f"AADSTS{code}: It is not to be.", "error_codes": [code]}


def _handler(fake: GraphFake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def do_GET(self) -> None:
            self._serve(None)

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def _serve(self, body: bytes | None) -> None:
            with fake.lock:
                status, answer, headers = _answer(fake, self, body)
            if status == 0:
                self.close_connection = True
                self.connection.close()
                return
            octets = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(octets)),
                "Content-Type": "application/json",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(octets)

    return Handler


def _answer(fake: GraphFake, request: BaseHTTPRequestHandler, body: bytes | None) -> tuple[int, Any, dict[str, str]]:
    parts = urlsplit(request.path)
    path = unquote(parts.path).removeprefix("/v1.0")
    headers = {name.lower(): value for name, value in request.headers.items()}
    fake.asked.append((request.command, path + (f"?{unquote(parts.query)}" if parts.query else ""), headers))
    fault = fake.fault(path)
    if fault is not None:
        return fault.status, fault.body, fault.headers
    if path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
        base = f"{fake.url}/{TENANT}"
        return 200, {
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token", "issuer": f"{base}/v2.0",
        }, {}  # fmt: skip
    if path.endswith("/.well-known/openid-configuration"):
        return 400, _aadsts(90002, "invalid_tenant"), {}
    if path == f"/{TENANT}/oauth2/v2.0/token":
        return *fake.sign_in(dict(parse_qsl((body or b"").decode()))), {}
    if not fake.is_good(headers):
        return 401, {"error": {"code": "InvalidAuthenticationToken", "message": "It is over."}}, {}
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    status, answer = fake.answer(path, query, headers, json.loads(body) if body else None)
    location = {"Location": f"{fake.url}/v1.0{path}?$deltatoken="} if status == 410 else {}
    return status, answer, location


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[GraphFake, Path]]:
    """A tenant on a free port, and the file of the authority that signed its certificate."""
    authority = trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    fake = GraphFake()
    server = _Server(("127.0.0.1", 0), _handler(fake))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    fake.url = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield fake, ca_file
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def ids(found: Iterable[Any]) -> list[str]:
    """The ids of entries, in order."""
    return sorted(one.id for one in found)

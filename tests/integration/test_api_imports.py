"""Imports of users: uploaded, reviewed row by row, applied as reviewed (SPEC U3, CASES 3.4)."""

import io

import openpyxl
import pytest

from postern_api.imports.worker import ImportWorker
from postern_common.documents import Collections
from postern_common.mongo import PLATFORM
from tests.servers.api import api, customer, place, prepared  # noqa: F401 - fixtures

CSV = {"Content-Type": "text/csv"}


async def work(api):
    while await ImportWorker(api.resources).work_once():
        pass


async def upload(api, customer, content, *, existing="update"):
    """The import after its review."""
    data = content.encode() if isinstance(content, str) else content
    path = f"{customer}/imports?existing={existing}"
    made = await api.post(path, content=data, headers=CSV, expect=202)
    assert made.json()["state"] == "reviewing"
    await work(api)
    return (await api.get(made.headers["Location"], expect=200)).json()


async def rows_of(api, customer, imported, **filters):
    query = "&".join(f"{name}={value}" for name, value in {"limit": 200, **filters}.items())
    return (await api.get(f"{customer}/imports/{imported['id']}/rows?{query}", expect=200)).json()["items"]


async def apply(api, customer, imported):
    """The import after its application."""
    asked = await api.post(f"{customer}/imports/{imported['id']}/apply", expect=202)
    assert asked.json()["state"] == "applying"
    await work(api)
    return (await api.get(asked.headers["Location"], expect=200)).json()


async def users_of(api, customer):
    found = (await api.get(f"{customer}/users?limit=200", expect=200)).json()["items"]
    return {user["email"]: user for user in found}


def counts(**wanted):
    return {"create": 0, "update": 0, "unchanged": 0, "skipped": 0, "error": 0} | wanted


@pytest.mark.spec("U3")
async def test_nothing_is_saved_before_it_was_reviewed_and_then_exactly_that(api, customer):
    text = "Email;First Name;LAST_NAME;alias1;alias2\nAnn@acme.com;Ann;Lee;a@acme.com;\nbob@acme.com;Bob;;;\n"
    imported = await upload(api, customer, text)
    assert imported["state"] == "reviewed"
    assert imported["counts"] == counts(create=2)
    assert imported["percent"] == 100
    assert await users_of(api, customer) == {}
    ann, _ = await rows_of(api, customer, imported)
    assert (ann["number"], ann["outcome"], ann["email"]) == (2, "create", "Ann@acme.com")
    assert ann["after"]["aliases"] == ["a@acme.com"]
    applied = await apply(api, customer, imported)
    assert applied["state"] == "applied"
    assert applied["results"] == {"created": 2, "updated": 0, "stale": 0, "left_out": 0}
    users = await users_of(api, customer)
    assert set(users) == {"Ann@acme.com", "bob@acme.com"}
    assert users["Ann@acme.com"]["source"] == "csv"
    assert users["Ann@acme.com"]["addresses"][1] == {"address": "a@acme.com", "is_primary": False, "source": "csv"}
    events = await api.events("UserAdded")
    assert {event["subject"] for event in events} == {user["id"] for user in users.values()}
    assert {event["data"]["source"] for event in events} == {"csv"}
    rows = await rows_of(api, customer, imported, result="applied")
    assert [row["user_id"] for row in rows] == [users["Ann@acme.com"]["id"], users["bob@acme.com"]["id"]]


@pytest.mark.spec("U3", "U4")
async def test_an_imported_user_is_stored_as_one_entered_by_hand(api, customer):
    body = {"email": "eve@acme.com", "first_name": "Eve", "last_name": "", "aliases": ["e@acme.com"]}
    await api.post(f"{customer}/users", body, expect=201)
    await apply(api, customer, await upload(api, customer, "email,first_name,alias1\nann@acme.com,Ann,a@acme.com\n"))
    by_hand, imported = sorted(await api.all("users"), key=lambda user: user["source"], reverse=True)
    assert imported["source"] == "csv"
    assert set(imported) == set(by_hand)
    differ = {"_id", "email", "email_key", "aliases", "source", "first_name", "created_at", "updated_at"}
    assert {name: imported[name] for name in set(imported) - differ} == {
        name: by_hand[name] for name in set(by_hand) - differ
    }
    stored = sorted(await api.all("addresses"), key=lambda address: address["key"])
    hers, theirs = ([a for a in stored if a["user_id"] == user["_id"]] for user in (by_hand, imported))
    assert [set(a) for a in hers] == [set(a) for a in theirs]
    assert [(a["is_primary"], a["verified"]) for a in theirs] == [(False, True), (True, True)]
    pending = await api.customer("Pending Ltd")
    await api.post(f"{pending}/domains", {"name": "acme.com"}, expect=201)
    await apply(api, pending, await upload(api, pending, "ann@acme.com\n"))
    prepared_ones = [a for a in await api.all("addresses") if a["customer_id"] in pending]
    assert [a["verified"] for a in prepared_ones] == [False]


@pytest.mark.spec("U3")
async def test_an_update_changes_only_what_the_file_says_and_shows_before_and_after(api, customer):
    body = {"email": "ann@acme.com", "first_name": "Ann", "last_name": "Lee", "aliases": ["a@acme.com"], "mobile": "1"}
    ann = (await api.post(f"{customer}/users", body, expect=201)).json()
    imported = await upload(api, customer, "email,mobile,last_name\nANN@acme.com,+44 7,Lee\n")
    (row,) = await rows_of(api, customer, imported, outcome="update")
    assert row["changed"] == ["mobile"]
    assert (row["before"]["mobile"], row["after"]["mobile"], row["after"]["last_name"]) == ("1", "+44 7", None)
    applied = await apply(api, customer, imported)
    assert applied["results"]["updated"] == 1
    after = (await users_of(api, customer))["ann@acme.com"]
    kept = {"mobile", "updated_at"}
    assert after["mobile"] == "+44 7"
    assert {k: v for k, v in after.items() if k not in kept} == {k: v for k, v in ann.items() if k not in kept}
    (event,) = await api.events("UserUpdated")
    assert event["data"]["fields"] == ["mobile"]
    again = await upload(api, customer, "email,mobile,last_name\nANN@acme.com,+44 7,Lee\n")
    assert again["counts"] == counts(unchanged=1)
    skipped = await upload(api, customer, "email,mobile\nann@acme.com,9\nnew@acme.com,8\n", existing="skip")
    assert skipped["counts"] == counts(skipped=1, create=1)
    (row,) = await rows_of(api, customer, skipped, outcome="skipped")
    assert row["reason"] == "The user is there already."


@pytest.mark.spec("U3")
async def test_aliases_of_a_row_replace_those_by_hand_but_not_those_of_the_directory(api, customer):
    body = {"email": "ann@acme.com", "first_name": "", "last_name": "", "aliases": ["a@acme.com", "b@acme.com"]}
    await api.post(f"{customer}/users", body, expect=201)
    users = api.mongo.collection(Collections.USERS, PLATFORM)
    await users.update_one({"email": "ann@acme.com"}, {"$set": {"aliases.0.source": "ldap"}})
    imported = await upload(api, customer, "email,alias1,alias2\nann@acme.com,c@acme.com,\n")
    (row,) = await rows_of(api, customer, imported)
    assert row["before"]["aliases"] == ["a@acme.com", "b@acme.com"]
    assert row["after"]["aliases"] == ["c@acme.com", "a@acme.com"]
    await apply(api, customer, imported)
    ann = (await users_of(api, customer))["ann@acme.com"]
    assert [(a["address"], a["source"]) for a in ann["addresses"]] == [
        ("ann@acme.com", "manual"), ("c@acme.com", "csv"), ("a@acme.com", "ldap"),
    ]  # fmt: skip
    keys = {a["key"]: a["is_primary"] for a in await api.all("addresses")}
    assert keys == {"ann@acme.com": True, "c@acme.com": False, "a@acme.com": False}


@pytest.mark.spec("U3", "S2")
async def test_users_of_a_directory_are_left_to_it(api, customer):
    await api.post(f"{customer}/users", {"email": "ann@acme.com", "first_name": "Ann", "last_name": ""}, expect=201)
    users = api.mongo.collection(Collections.USERS, PLATFORM)
    await users.update_one({}, {"$set": {"source": "entra"}})
    imported = await upload(api, customer, "email,first_name\nann@acme.com,Anna\n")
    (row,) = await rows_of(api, customer, imported)
    assert (row["outcome"], row["reason"]) == ("skipped", "The user is managed by the directory.")
    assert (await apply(api, customer, imported))["state"] == "applied"
    assert (await users_of(api, customer))["ann@acme.com"]["first_name"] == "Ann"


@pytest.mark.spec("U3")
async def test_case_41_a_second_row_with_the_same_address_is_an_error_naming_the_first(api, customer):
    text = "email,first_name\nx@acme.com,One\nX@ACME.com,Two\ny@acme.com,\nnonsense,\n\nz@acme.com,\n"
    imported = await upload(api, customer, text)
    assert imported["counts"] == counts(create=3, error=2)
    twice, bad = await rows_of(api, customer, imported, outcome="error")
    assert twice["number"] == 3
    assert twice["errors"] == [{"column": "email", "message": "The address is in row 2 already."}]
    assert bad["errors"] == [{"column": "email", "message": "The address needs the form name@domain."}]
    assert [row["number"] for row in await rows_of(api, customer, imported, outcome="create")] == [2, 4, 7]
    await apply(api, customer, imported)
    assert (await users_of(api, customer))["x@acme.com"]["first_name"] == "One"
    again = await upload(api, customer, text)
    assert again["counts"] == counts(unchanged=3, error=2)
    alone = await upload(api, customer, "email\n")
    assert (alone["state"], alone["counts"]) == ("reviewed", counts())
    assert alone["warnings"] == ["There is no row beneath the names of the columns."]


@pytest.mark.spec("U3", "U4")
async def test_case_42_aliases_that_are_somebodys_are_errors(api, customer):
    body = {"email": "u@acme.com", "first_name": "", "last_name": "", "aliases": ["taken@acme.com"]}
    await api.post(f"{customer}/users", body, expect=201)
    text = (
        "email,alias1,alias2\n"
        "a@acme.com,U@acme.com,\n"
        "b@acme.com,B@acme.com,\n"
        "c@acme.com,Taken@acme.com,x@elsewhere.com\n"
        "taken@acme.com,,\n"
        "d@acme.com,d1@acme.com,D1@acme.com\n"
        "e@acme.com,e1@acme.com,\n"
        "f@acme.com,E1@acme.com,\n"
        "u@acme.com,taken@acme.com,\n"
    )
    imported = await upload(api, customer, text)
    assert imported["counts"] == counts(create=1, unchanged=1, error=6)
    errors = {row["email"]: row["errors"] for row in await rows_of(api, customer, imported, outcome="error")}
    in_use = "The address is in use by u@acme.com."
    assert errors == {
        "a@acme.com": [{"column": "alias1", "message": in_use}],
        "b@acme.com": [{"column": "alias1", "message": "This is the row's own primary address."}],
        "c@acme.com": [
            {"column": "alias2", "message": "elsewhere.com is not one of the customer's domains."},
            {"column": "alias1", "message": in_use},
        ],
        "taken@acme.com": [{"column": "email", "message": in_use}],
        "d@acme.com": [{"column": "alias2", "message": "This address is in the row twice."}],
        "f@acme.com": [{"column": "alias1", "message": "The address, as an alias, is in row 7 already."}],
    }


@pytest.mark.spec("U3", "U4")
async def test_a_row_that_moved_since_the_review_is_left_out_as_stale(api, customer):
    one = {"email": "ann@acme.com", "first_name": "Ann", "last_name": ""}
    await api.post(f"{customer}/users", one, expect=201)
    text = "email,first_name\nann@acme.com,Anna\nbob@acme.com,Bob\ncid@acme.com,Cid\n"
    imported = await upload(api, customer, text)
    ann = (await users_of(api, customer))["ann@acme.com"]
    await api.patch(f"{customer}/users/{ann['id']}", {"notes": "moved"}, expect=200)
    taker = {"email": "eve@acme.com", "first_name": "", "last_name": "", "aliases": ["bob@acme.com"]}
    await api.post(f"{customer}/users", taker, expect=201)
    applied = await apply(api, customer, imported)
    assert applied["state"] == "applied"
    assert applied["results"] == {"created": 1, "updated": 0, "stale": 2, "left_out": 0}
    stale = {row["email"]: row["result_reason"] for row in await rows_of(api, customer, imported, result="stale")}
    assert stale == {
        "ann@acme.com": "The user has changed since the review.",
        "bob@acme.com": "The address bob@acme.com is in use since the review.",
    }
    users = await users_of(api, customer)
    assert set(users) == {"ann@acme.com", "cid@acme.com", "eve@acme.com"}
    assert users["ann@acme.com"]["first_name"] == "Ann"
    only = await upload(api, customer, "email,first_name\nann@acme.com,Anna\n")
    await api.patch(f"{customer}/users/{ann['id']}", {"notes": "again"}, expect=200)
    assert (await apply(api, customer, only))["state"] == "stale"


@pytest.mark.spec("U3")
async def test_a_domain_or_a_site_that_went_makes_a_row_stale(api, customer):
    await api.verified(customer, "other.com")
    site = (await api.post(f"{customer}/sites", {"servers": [{"host": "127.0.0.9"}]}, expect=201)).json()
    await api.post(f"{customer}/sites", {"description": "London", "servers": [{"host": "127.0.0.8"}]}, expect=201)
    text = f"email,site\na@other.com,\nb@acme.com,{site['id']}\nc@acme.com,LONDON\nd@acme.com,Paris\n"
    imported = await upload(api, customer, text)
    assert imported["counts"] == counts(create=3, error=1)
    (wrong,) = await rows_of(api, customer, imported, outcome="error")
    assert wrong["errors"] == [{"column": "site", "message": "There is no such site."}]
    await api.delete(f"{customer}/domains/other.com", expect=204)
    sites = api.mongo.collection(Collections.SITES, PLATFORM)
    await sites.delete_one({"_id": site["id"]})
    await apply(api, customer, imported)
    stale = {row["email"]: row["result_reason"] for row in await rows_of(api, customer, imported, result="stale")}
    assert stale == {
        "a@other.com": "The domain other.com is no longer one of the customer's.",
        "b@acme.com": "The site is gone since the review.",
    }
    assert (await users_of(api, customer))["c@acme.com"]["site_id"] is not None


@pytest.mark.spec("U3", "T6")
async def test_licences_are_given_in_the_order_of_the_file(api):
    customer = await api.customer("Small Ltd", allowed_users=3)
    await api.verified(customer, "acme.com")
    await api.post(f"{customer}/users", {"email": "old@acme.com", "first_name": "", "last_name": ""}, expect=201)
    text = "email,first_name\na@acme.com,\nb@acme.com,\nc@acme.com,\nold@acme.com,Old\n"
    imported = await upload(api, customer, text)
    assert imported["warnings"] == [
        "2 licences are free for 3 new users: those at the end of the file will be left out."
    ]
    applied = await apply(api, customer, imported)
    assert applied["results"] == {"created": 2, "updated": 1, "stale": 0, "left_out": 1}
    (left,) = await rows_of(api, customer, imported, result="left_out")
    assert (left["email"], left["result_reason"]) == ("c@acme.com", "All licences are in use.")
    assert set(await users_of(api, customer)) == {"old@acme.com", "a@acme.com", "b@acme.com"}


def workbook(rows):
    file = io.BytesIO()
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Users")
    for row in rows:
        sheet.append(row)
    book.create_sheet("More").append(["email"])
    book.save(file)
    return file.getvalue()


@pytest.mark.spec("U3")
async def test_what_is_no_file_of_users_is_refused_with_what_it_is(api, customer):
    nothing = (await api.post(f"{customer}/imports", expect=415)).json()
    assert "JSON" not in nothing["title"]
    assert "text/csv" in nothing["detail"]
    files = {"file": ("users.xlsx", b"email,first_name\r\nann@acme.com,Ann\r\n", "application/octet-stream")}
    token = {"Authorization": "Bearer the-platform-token-of-these-tests"}
    named = await api.client.post(f"{customer}/imports", files=files, headers=token)
    assert named.status_code == 422
    assert named.json()["detail"].startswith("This is no XLSX workbook")


@pytest.mark.spec("U3")
async def test_a_workbook_is_taken_as_form_and_numbers_are_text(api, customer):
    data = workbook([["E-mail", "Mobile", "First name"], ["ann@acme.com", 447700900000, "Zoë"], [None, None], ["b"]])
    files = {"file": ("Users März.xlsx", data, "application/octet-stream")}
    token = {"Authorization": "Bearer the-platform-token-of-these-tests"}
    made = await api.client.post(f"{customer}/imports", files=files, data={"existing": "skip"}, headers=token)
    assert made.status_code == 202, made.text
    assert (made.json()["name"], made.json()["kind"]) == ("Users März.xlsx", "workbook")
    assert made.json()["existing"] == "skip"
    await work(api)
    imported = (await api.get(made.headers["Location"], expect=200)).json()
    assert imported["counts"] == counts(create=1, error=1)
    assert imported["warnings"] == ["Only the first of the 2 sheets was read."]
    created, wrong = await rows_of(api, customer, imported)
    assert (created["after"]["mobile"], created["after"]["first_name"]) == ("447700900000", "Zoë")
    assert wrong["number"] == 4


@pytest.mark.spec("U3")
async def test_pasted_rows_come_as_json(api, customer):
    pasted = {"text": 'Email\tFirst name\tNotes\nann@acme.com\tAnn\t"two\nlines"\n', "existing": "skip"}
    made = await api.post(f"{customer}/imports", pasted, expect=202)
    await work(api)
    imported = (await api.get(made.headers["Location"], expect=200)).json()
    (row,) = await rows_of(api, customer, imported)
    assert (row["after"]["first_name"], row["after"]["notes"]) == ("Ann", "two\nlines")
    for body in ({}, {"text": ""}, {"text": "a@b.c", "more": 1}, {"text": "x", "existing": "y"}):
        await api.post(f"{customer}/imports", body, expect=422)


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "data, word",
    [
        (b"", "empty"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600, ".xls"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "neither text nor"),
    ],
)
async def test_what_is_no_list_of_users_is_refused_at_once(api, customer, data, word):
    refused = await api.post(f"{customer}/imports", content=data, headers=CSV, expect=422)
    assert word in refused.json()["detail"]
    assert await api.all("import_chunks") == []


@pytest.mark.spec("U3")
@pytest.mark.parametrize(
    "data, reason",
    [
        (b"first_name,last_name\nAnn,Lee\n", "The first row names no column email"),
        (b"email,e-mail\na@acme.com,b@acme.com\n", "The column email is there more than once: columns 1, 2."),
        (b"PK\x03\x04 and then nothing", "This is no XLSX workbook that can be read."),
        (b'email,notes\na@acme.com,"never closed\n', "Row 2: a quote is opened and never closed."),
        ("email,notes\nb@acme.com,M\xfcller\n".encode() + b"a@acme.com,\xfc\n", "Line 3 is not UTF-8"),
        (b"email,notes\na@acme.com,\x81\xfc\n", "Line 2 is neither UTF-8 nor Windows-1252."),
    ],
)
async def test_a_file_that_cannot_be_read_fails_with_the_reason_and_the_row(api, customer, data, reason):
    imported = await upload(api, customer, data)
    assert imported["state"] == "failed"
    assert imported["reason"].startswith(reason)
    assert await api.all("import_chunks") == []
    await api.post(f"{customer}/imports/{imported['id']}/apply", expect=409)


@pytest.mark.spec("U3")
async def test_an_import_is_applied_once_and_can_be_forgotten(api, customer):
    imported = await upload(api, customer, "ann@acme.com\n")
    path = f"{customer}/imports/{imported['id']}"
    assert [one["id"] for one in (await api.get(f"{customer}/imports")).json()["items"]] == [imported["id"]]
    await api.post(f"{path}/apply", expect=202)
    refused = await api.post(f"{path}/apply", expect=409)
    assert refused.json()["code"] == "wrong-state"
    await api.delete(path, expect=409)
    await work(api)
    await api.post(f"{path}/apply", expect=409)
    tag = (await api.get(path)).headers["ETag"]
    assert (await api.call("DELETE", path)).status_code == 428
    await api.delete(path, tag='"999"', expect=412)
    await api.delete(path, tag=tag, expect=204)
    await api.get(path, expect=404)
    await api.get(f"{path}/rows", expect=404)
    assert await api.all("import_rows") == []
    assert set(await users_of(api, customer)) == {"ann@acme.com"}

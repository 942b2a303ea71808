"""The agent's memory: differences, pages, digests, and what it goes on from."""

import gzip
import json
import random
import sqlite3

import pytest

from postern_sync.agent.__main__ import main
from postern_sync.agent.config import ConfigFault, load, read_secret, write_secret
from postern_sync.agent.state import State, alone, seen
from postern_sync.rules.agent_records import Digest, entry_key, member_key, members_prefix, membership_of
from tests.servers.sync_source import entry

REPORT = {"place": "", "report": {}}


@pytest.fixture
def state(tmp_path):
    found = State(tmp_path)
    yield found
    found.close()


def scan(state, entries, members=(), base=None, name="rnd_1"):
    """One reading, prepared."""
    state.settle(base)
    state.put(list(entries))
    for group, refs in members:
        state.put_members(group, refs)
    found = state.prepare("run_1", "0" * 32, {"id": name, "base": base}, REPORT)
    return found["statement"], pages(state, found["statement"]["pages"])


def pages(state, count):
    return [json.loads(gzip.decompress(state.page(number))) for number in range(count)]


def names(page_list):
    return [found["id"] for page in page_list for found in page["entries"]]


@pytest.mark.spec("L4")
def test_the_digest_does_not_depend_on_the_order_and_names_each_change():
    records = [(entry_key(str(number)), str(number)) for number in range(50)]
    texts = set()
    for changed in (records, random.Random(1).sample(records, 50)):
        digest = Digest()
        for key, content in changed:
            digest.add(key, content)
        texts.add(digest.text)
    assert len(texts) == 1
    for other in (records[1:], [*records, records[0]], [(key, "x") for key, _ in records]):
        digest = Digest()
        for key, content in other:
            digest.add(key, content)
        assert digest.text not in texts


@pytest.mark.spec("L4")
@pytest.mark.parametrize("group", ["x", "cn=a:b,dc=c", "3:abc", ":", "grüße"])
def test_a_membership_is_told_apart_whatever_its_names(group):
    for ref in ("uid:ann", "", "cn=x:1"):
        assert membership_of(member_key(group, ref)) == (group, ref)
        assert not member_key(group + ":y", ref).startswith(members_prefix(group))


@pytest.mark.spec("L4")
def test_only_what_changed_since_the_base_is_prepared(state):
    ann, bob = entry("ann", "ann@demo.test"), entry("bob", "bob@demo.test")
    _, first = scan(state, [ann, bob], [("g", ["a", "b"])])
    assert (names(first), first[0]["members"]) == (
        ["id-ann", "id-bob"], [{"group_id": "g", "added": ["a", "b"], "removed": []}],
    )  # fmt: skip
    state.sent("rnd_1")
    assert state.known() == ["rnd_1"]
    moved = entry("ann", "ann@demo.test", "a@demo.test")
    statement, second = scan(state, [moved], [("g", ["b", "c"])], base="rnd_1", name="rnd_2")
    assert second == [
        {
            "entries": [moved.to_json()],
            "removed": ["id-bob"],
            "members": [{"group_id": "g", "added": ["c"], "removed": ["a"]}],
        }
    ]
    assert statement["records"] == 3
    state.sent("rnd_2")
    assert state.known() == ["rnd_2", "rnd_1"]
    _, third = scan(state, [moved], [("g", ["b", "c"])], base="rnd_2")
    assert third == []


@pytest.mark.spec("L4")
def test_a_round_that_the_server_did_not_take_leaves_the_base(state):
    ann, bob = entry("ann", "ann@demo.test"), entry("bob", "bob@demo.test")
    scan(state, [ann])
    state.sent("rnd_1")
    scan(state, [ann, bob], base="rnd_1")
    state.sent("rnd_2")  # a preview's: the server still stands at the first
    _, again = scan(state, [ann, bob], base="rnd_1")
    assert names(again) == ["id-bob"]


@pytest.mark.spec("L4")
def test_without_a_base_everything_is_prepared_again(state):
    ann = entry("ann", "ann@demo.test")
    scan(state, [ann])
    state.sent("rnd_1")
    assert names(scan(state, [ann], base=None)[1]) == ["id-ann"]
    assert state.known() == []


@pytest.mark.spec("L4")
def test_members_that_are_read_again_are_forgotten_for_that_group_alone(state):
    state.settle(None)
    state.put_members("g", ["a"])
    state.put_members("g:x", ["b"])
    state.put_members("h", ["c"])
    state.restart_members("g")
    state.put_members("g", ["d"])
    found = state.prepare("run_1", "0" * 32, {"id": "r", "base": None}, REPORT)
    (page,) = pages(state, found["statement"]["pages"])
    assert {one["group_id"]: one["added"] for one in page["members"]} == {"g": ["d"], "g:x": ["b"], "h": ["c"]}


@pytest.mark.spec("L4")
def test_prepared_pages_outlive_the_process_until_they_are_sent(tmp_path, monkeypatch):
    monkeypatch.setattr("postern_sync.agent.state.PAGE_RECORDS", 3)
    state = State(tmp_path)
    statement, before = scan(state, [entry(number, f"u{number}@demo.test") for number in range(10)])
    assert statement["pages"] == 4
    state.close()
    again = State(tmp_path)
    assert (again.prepared("run_1") or {})["statement"] == statement
    assert again.prepared("run_2") is None
    assert pages(again, 4) == before
    again.sent("rnd_1")
    assert again.prepared("run_1") is None
    again.close()


@pytest.mark.spec("L4")
def test_large_pages_are_split_by_size(state):
    entries = [entry(number, f"u{number}@demo.test", fields={"notes": "x" * 4000}) for number in range(500)]
    statement, found = scan(state, entries)
    assert statement["pages"] > 3
    assert all(len(json.dumps(page)) < 700_000 for page in found)
    assert len(names(found)) == 500


@pytest.mark.spec("L4")
@pytest.mark.parametrize("damage", ["no database", "another format"])
def test_a_state_that_cannot_be_read_is_begun_anew(tmp_path, damage):
    if damage == "no database":
        (tmp_path / "state.sqlite").write_bytes(b"garbage" * 1000)
    else:
        sqlite3.connect(tmp_path / "state.sqlite").execute("PRAGMA user_version = 99").connection.close()
    state = State(tmp_path)
    assert state.known() == []
    assert (tmp_path / "state.sqlite").stat().st_mode & 0o077 == 0
    state.close()


@pytest.mark.spec("L4")
def test_secrets_are_for_their_owner_alone(tmp_path):
    write_secret(tmp_path / "token", "pagt_x")
    assert read_secret(tmp_path / "token") == "pagt_x"
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(ConfigFault, match="0600"):
        read_secret(tmp_path / "token")


@pytest.mark.spec("L4")
@pytest.mark.parametrize(
    "text, word",
    [
        ('url = "http://postern.example.com"\n[ldap]\nhost = "dc1"', "url"),
        ('url = "https://postern.example.com"\n[ldap]\nhost = "dc1"\nuser = "x"', "password_file"),
        ('url = "https://postern.example.com"\nverify = false\n[ldap]\nhost = "dc1"', "verify"),
        ('url = "https://postern.example.com"', "ldap"),
        ("url =", "config.toml"),
    ],
)
def test_settings_that_cannot_be_used_say_why(tmp_path, text, word):
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigFault, match=word):
        load(file)


@pytest.mark.spec("L4")
def test_a_state_that_is_locked_is_another_agents_and_stays(state, tmp_path, monkeypatch):
    state.note("base_round", "rnd_1")
    plain = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: plain(*args, **(options | {"timeout": 0.2})))
    with state._whole():
        state.note("settings", {})
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            State(tmp_path)
        assert seen(tmp_path, "base_round", "settings") == {"base_round": "rnd_1"}
    assert State(tmp_path).noted("base_round") == "rnd_1"


@pytest.mark.spec("L4")
def test_two_agents_do_not_work_with_one_state(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("postern_sync.agent.__main__._log_to_stderr", lambda _level: None)
    file = tmp_path / "config.toml"
    file.write_text(f'url = "https://localhost:1"\nstate_dir = "{tmp_path}"\n[ldap]\nhost = "dc1"')
    write_secret(tmp_path / "token", "pagt_1")
    with alone(tmp_path):
        assert main(["--config", str(file), "once"]) == 74
        assert "another one works with it" in capsys.readouterr().err
        assert main(["--config", str(file), "status"]) == 0
    assert main(["--config", str(file), "once"]) == 69


@pytest.mark.spec("L4")
def test_pages_are_whole_or_none_where_the_disk_is_full(state):
    scan(state, [entry("ann", "ann@demo.test")])
    state.sent("rnd_1")
    state.settle("rnd_1")
    (size,) = state._db.execute("PRAGMA page_count").fetchone()
    state._db.execute(f"PRAGMA max_page_count = {size + 20}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        state.put([entry(f"u{number}", f"u{number}@demo.test") for number in range(5000)])
    state._db.execute("PRAGMA max_page_count = 1000000")
    statement, found = scan(state, [entry("bob", "bob@demo.test")], base="rnd_1")
    assert (statement["records"], names(found), found[0]["removed"]) == (1, ["id-bob"], ["id-ann"])


@pytest.mark.spec("L4")
def test_a_file_that_was_damaged_inside_is_begun_anew(tmp_path):
    first = State(tmp_path)
    scan(first, [entry(f"u{number}", f"u{number}@demo.test") for number in range(3000)])
    first.sent("rnd_1")
    first.close()
    path = tmp_path / "state.sqlite"
    octets = bytearray(path.read_bytes())
    octets[4096 * 8 :] = b"\xa5" * (len(octets) - 4096 * 8)
    path.write_bytes(octets)
    path.chmod(0o644)
    again = State(tmp_path)
    assert again.known() == []
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()

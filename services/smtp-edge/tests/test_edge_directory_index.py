"""The directory's index in memory: a million addresses fit, and each change finds its place."""

import sys

from postern_edge.directory_index import DirectoryIndex


def user(number):
    return f"usr_{number:032x}"


def address(key, number=1, **fields):
    return {"key": key, "user_id": user(number), "verified": True, **fields}


def test_an_address_that_moved_to_another_user_is_not_removed_by_the_old_ones_end():
    index = DirectoryIndex()
    index.put_address(address("a@x.test", 1))
    index.put_address(address("a@x.test", 2))
    index.remove_address(address("a@x.test", 1))
    assert index.find_user("a@x.test") == user(2)
    index.remove_address(address("a@x.test", 2))
    assert index.find_user("a@x.test") is None
    assert index.addresses == 0


def test_ids_of_another_form_are_kept_as_they_are():
    index = DirectoryIndex()
    index.put_address({"key": "a@x.test", "user_id": "usr_odd", "verified": True})
    assert index.find_user("a@x.test") == "usr_odd"


def test_a_site_without_servers_or_a_domain_taken_away_leaves_nothing_behind():
    index = DirectoryIndex()
    domain = {"name": "x.test", "customer_id": "c", "state": "verified", "site_id": None}
    site = {"customer_id": "c", "is_default": True, "servers": []}
    index.put_domain("dom_1", domain)
    index.put_site("sit_1", site)
    assert index.owner_of("x.test") == "c"
    found = index.site_for("c", "x.test", None)
    assert found is not None
    assert found.site_id == "sit_1"
    index.put_domain("dom_1", None)
    index.put_site("sit_1", None)
    assert index.owner_of("x.test") is None
    assert index.site_for("c", "x.test", None) is None


def test_an_address_costs_little_memory():
    index = DirectoryIndex()
    for number in range(20_000):
        index.put_address(address(f"first.last{number}@x.test", number))
    users = index._users["x.test"]
    size = sys.getsizeof(users) + sum(sys.getsizeof(local) + sys.getsizeof(packed) for local, packed in users.items())
    assert size / 20_000 < 200  # octets: 200 MB for a million

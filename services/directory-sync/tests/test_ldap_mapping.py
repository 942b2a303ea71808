"""What becomes of an LDAP object: identity, addresses, state, fields (BEHAVIOURS 3.5, 3.6)."""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postern_sync.rules.entries import Entry
from postern_sync.rules.ldap_addresses import find_addresses
from postern_sync.rules.ldap_mapping import LdapMapping, primary_group, relative_identifier
from postern_sync.rules.ldap_presets import PRESETS, PresetName

NOW = datetime(2026, 11, 25, tzinfo=UTC)
GUID = UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")
DN = "CN=Ann Lee,OU=Staff,DC=demo,DC=test"


def mapping(preset: PresetName = "ad", overrides: dict[str, str] | None = None, **options: Any) -> LdapMapping:
    return LdapMapping(PRESETS[preset], overrides or {}, NOW, **options)


def raw(**attributes: Any) -> dict[str, list[bytes]]:
    found = {"objectguid": [GUID.bytes_le]}
    for name, values in attributes.items():
        listed = values if isinstance(values, list) else [values]
        found[name.lower()] = [value if isinstance(value, bytes) else str(value).encode() for value in listed]
    return found


def user(preset: PresetName = "ad", dn: str = DN, options: dict[str, Any] | None = None, **attributes: Any) -> Entry:
    return mapping(preset, **(options or {})).user(dn, raw(**attributes))


def addresses(entry: Entry) -> list[str]:
    """The primary address, then the others."""
    return [*([entry.primary.address] if entry.primary else ["-"]), *(alias.address for alias in entry.aliases)]


# --- identity ---


@pytest.mark.spec("L2")
def test_an_object_guid_is_read_mixed_endian_and_carried_over_as_base64():
    found = user(mail="ann@demo.test")
    assert (found.id, found.id_kind) == ("6f9619ff-8b86-d011-b42d-00cf4fc964ff", "objectGUID")
    assert found.immutable_id == b64encode(GUID.bytes_le).decode()


@pytest.mark.spec("S1")
def test_a_consistency_guid_goes_before_the_object_guid_for_the_other_provider():
    anchor = UUID(int=7).bytes_le
    found = mapping().user(DN, raw(**{"mS-DS-ConsistencyGuid": anchor}))
    assert found.id == str(GUID)
    assert found.immutable_id == b64encode(anchor).decode()


@pytest.mark.spec("L2")
@pytest.mark.parametrize(
    ("preset", "attribute", "value"),
    [
        ("openldap", "entryUUID", "6F9619FF-8B86-D011-B42D-00CF4FC964FF"),
        ("389ds", "nsUniqueId", "6f9619ff-8b86d011-b42d00cf-4fc964ff"),
        ("freeipa", "ipaUniqueID", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    ],
)
def test_other_directories_identities_are_uuids_too(preset: PresetName, attribute: str, value: str):
    found = mapping(preset).user(DN, raw(**{attribute: value}))
    assert (found.id, found.id_kind, found.immutable_id) == (str(GUID), "entryUUID", None)


def test_an_object_without_a_readable_identity_goes_by_its_name():
    found = mapping("openldap").user("UID=Ann, OU=People,DC=demo,DC=test", {"mail": [b"ann@demo.test"]})
    assert (found.id, found.id_kind) == ("uid=ann,ou=people,dc=demo,dc=test", "dn")


# --- addresses ---


@pytest.mark.spec("L3")
def test_case_13_only_smtp_kinds_become_addresses_and_the_case_of_the_prefix_tells_the_primary():
    found = user(
        proxyAddresses=[
            "smtp:second@demo.test",
            "SMTP:First@demo.test",
            "Smtp:third@demo.test",
            "X500:/o=demo/ou=first administrative group/cn=ann lee",
            "SIP:ann@demo.test",
            "x400:C=US;A= ;P=Demo;S=Lee",
            "EUM:123@demo.test",
            "SPO:SPO_1@SPO_2",
            "NOTES:Ann Lee/Demo",
            "ann.plain@demo.test",
        ]
    )
    assert addresses(found) == ["First@demo.test", "second@demo.test", "third@demo.test"]
    assert found.faults == ()


@pytest.mark.spec("L3")
def test_case_14_the_smtp_value_is_primary_and_a_different_mail_an_alias_in_every_run():
    one = user(mail="a@demo.test", proxyAddresses=["SMTP:b@demo.test", "smtp:c@demo.test"])
    other = user(mail="a@demo.test", proxyAddresses=["smtp:c@demo.test", "SMTP:b@demo.test"])
    assert addresses(one) == addresses(other) == ["b@demo.test", "c@demo.test", "a@demo.test"]


@pytest.mark.spec("L3")
def test_case_15_an_apostrophe_is_part_of_an_address():
    found = user(mail="o'brien@demo.test", proxyAddresses=["smtp:o'brien@other.test"])
    assert addresses(found) == ["o'brien@demo.test", "o'brien@other.test"]


@pytest.mark.spec("L3")
def test_case_17_mixed_case_is_kept_for_display_and_compared_folded():
    found = user(mail="Some.User@Demo.Test", proxyAddresses=["smtp:some.user@demo.test", "smtp:SOME.USER@DEMO.TEST"])
    assert found.primary is not None
    assert found.primary.address.startswith("Some.User@")
    assert found.primary.key == "some.user@demo.test"
    assert found.aliases == ()


@pytest.mark.spec("L3")
def test_of_two_primary_addresses_the_one_that_mail_names_is_it_else_the_first_by_the_alphabet():
    both = ["SMTP:zoe@demo.test", "SMTP:ann@demo.test"]
    assert addresses(user(mail="zoe@demo.test", proxyAddresses=both)) == ["zoe@demo.test", "ann@demo.test"]
    assert addresses(user(proxyAddresses=both)) == ["ann@demo.test", "zoe@demo.test"]


@pytest.mark.spec("L3")
def test_what_is_no_address_is_told_and_hurts_nobody():
    found = user(
        mail="  ", proxyAddresses=["SMTP:ann@demo.test", "smtp: spaced@demo.test ", "smtp:not an address", "smtp:"]
    )
    assert addresses(found) == ["ann@demo.test", "spaced@demo.test"]
    assert found.faults == ("not an address", "(empty)")


@pytest.mark.spec("L3")
def test_a_user_without_mail_goes_by_the_sign_in_name_only_where_that_was_chosen():
    fields: dict[str, Any] = {"userPrincipalName": "ann@demo.test"}
    assert user(**fields).primary is None
    chosen = user(options={"primary_from_upn": True}, **fields)
    assert addresses(chosen) == ["ann@demo.test"]
    assert addresses(user(options={"primary_from_upn": True}, mail="lee@demo.test", **fields)) == ["lee@demo.test"]


@pytest.mark.spec("S6")
def test_directories_other_than_ad_have_aliases_of_their_own():
    found = user(
        "openldap",
        mail=["ann@demo.test", "a.lee@demo.test"],
        mailAlternateAddress="lee@demo.test",
        mailAlternativeAddress="smtp:al@demo.test",
    )
    assert addresses(found) == ["ann@demo.test", "a.lee@demo.test", "lee@demo.test", "al@demo.test"]


@given(
    st.lists(st.text(max_size=40)), st.lists(st.text(max_size=40)), st.lists(st.text(max_size=40)), st.text(max_size=40)
)
def test_whatever_a_directory_holds_addresses_are_unique_and_the_primary_is_none_of_the_others(
    proxies: list[str], mails: list[str], others: list[str], upn: str
):
    found = find_addresses(proxies, mails, others, upn)
    keys = [alias.key for alias in found.aliases]
    assert len(keys) == len(set(keys))
    assert found.primary is None or found.primary.key not in keys


# --- state ---


@pytest.mark.spec("S10")
@pytest.mark.parametrize(
    ("control", "disabled"),
    [(512, False), (514, True), (544, False), (546, True), (66048, False), (66050, True), (66082, True), (2, True)],
)
def test_case_9_disabled_is_a_bit_and_no_number(control: int, disabled: bool):
    assert user(mail="ann@demo.test", userAccountControl=control).is_disabled is disabled


@pytest.mark.spec("S10")
@pytest.mark.parametrize("preset", ["openldap", "389ds", "freeipa", "ad"])
def test_case_10_a_directory_that_does_not_say_is_taken_as_enabled(preset: PresetName):
    assert not user(preset, mail="ann@demo.test").is_disabled


@pytest.mark.spec("S10")
@pytest.mark.parametrize(
    ("fields", "disabled"),
    [
        ({"nsAccountLock": "TRUE"}, True),
        ({"nsAccountLock": "true"}, True),
        ({"nsAccountLock": "FALSE"}, False),
        ({"pwdAccountLockedTime": "000001010000Z"}, True),
        ({"pwdAccountLockedTime": "20261124100000Z"}, False),  # too many wrong passwords: nobody has left
        ({"shadowExpire": 20000}, True),
        ({"shadowExpire": 40000}, False),
        ({"shadowExpire": -1}, False),
        ({"shadowExpire": 0}, False),
        ({"userAccountControl": "garbage"}, False),
        ({"userAccountControl": "9" * 5000}, False),
    ],
)
def test_other_directories_have_their_own_ways_of_switching_off(fields: dict[str, Any], disabled: bool):
    assert user("openldap", mail="ann@demo.test", **fields).is_disabled is disabled


@pytest.mark.spec("S10")
@pytest.mark.parametrize(
    ("recipient_type", "control", "kind"),
    [
        (1, 514, "user"),
        (None, 514, "user"),
        (2, 514, "shared"),  # linked: the person's account is in another forest
        (2, 512, "user"),
        (4, 514, "shared"),
        (4, 512, "shared"),
        (16, 514, "resource"),
        (32, 514, "resource"),
        (34359738368, 514, "shared"),
        (8589934592, 514, "resource"),
        (2147483648, 514, "user"),  # a mailbox in Exchange Online whose person has left
    ],
)
def test_a_disabled_account_with_a_mailbox_that_is_no_persons_is_kept(
    recipient_type: int | None, control: int, kind: str
):
    fields: dict[str, Any] = {} if recipient_type is None else {"msExchRecipientTypeDetails": recipient_type}
    found = user(mail="room@demo.test", userAccountControl=control, **fields)
    assert found.kind == kind


@pytest.mark.parametrize(
    ("dn", "fields"),
    [
        ("CN=HealthMailbox0a1b2c,CN=Monitoring Mailboxes,DC=demo,DC=test", {"mail": "HealthMailbox0a1b2c@demo.test"}),
        ("CN=SystemMailbox{1f05a927-1350-4ef0-8c8c-9d54e8e6e4cf},CN=Users,DC=demo,DC=test", {"mail": "s@demo.test"}),
        (DN, {"mail": "any@demo.test", "msExchRecipientTypeDetails": 536870912}),
        (DN, {"mail": "HealthMailboxdeadbeef@demo.test"}),
    ],
)
def test_exchanges_own_mailboxes_are_left_out(dn: str, fields: dict[str, Any]):
    assert user(dn=dn, **fields).excluded == "system_mailbox"


def test_a_person_whose_name_is_like_a_system_mailboxs_is_not_left_out():
    assert user(dn="CN=Healthmailbox Manager,DC=demo,DC=test", mail="healthmailbox.manager@demo.test").excluded is None


@pytest.mark.spec("S10")
def test_mailboxes_that_are_hidden_from_address_lists_sync_unless_the_customer_says_no():
    fields: dict[str, Any] = {"mail": "ann@demo.test", "msExchHideFromAddressLists": "TRUE"}
    assert user(**fields).excluded is None
    assert user(options={"include_hidden": False}, **fields).excluded == "hidden"
    assert user(options={"include_hidden": False}, mail="bob@demo.test").excluded is None


# --- fields, groups, references ---


@pytest.mark.spec("S6")
def test_notes_come_from_the_consoles_box_where_the_attribute_of_that_name_is_empty():
    assert user(notes="ours", info="the box").fields["notes"] == "ours"
    assert user(notes=" ", info="the\r\nbox").fields["notes"] == "the\nbox"
    assert user(info="the box").fields["notes"] == "the box"


@pytest.mark.spec("S6")
def test_attribute_names_can_be_the_customers_own_and_none_leaves_a_field_alone():
    own = mapping(
        "openldap", {"first_name": "preferredName", "mobile": "", "mail": "rfc822Mailbox", "id": "employeeNumber"}
    )
    found = own.user(
        "cn=x", {"preferredname": [b"Ann"], "rfc822mailbox": [b"ann@demo.test"], "employeenumber": [b"17"]}
    )
    assert found.fields["first_name"] == "Ann"
    assert "mobile" not in found.fields
    assert addresses(found) == ["ann@demo.test"]
    assert found.id == "17"
    assert "mobile" not in own.user_attributes
    assert "preferredName" in own.user_attributes


def test_fields_are_one_line_of_what_can_be_shown_and_no_longer_than_is_stored():
    found = user(givenName="Ann\r\n\x00Bcc: x", sn="x" * 5000, department=b"\xff\xfe", mobile=["", "+44 2"])
    assert found.fields["first_name"] == "Ann Bcc: x"
    assert len(found.fields["last_name"]) == 200
    assert found.fields["mobile"] == "+44 2"
    assert found.fields["home_phone"] == ""


@pytest.mark.spec("S7")
def test_a_group_is_a_list_under_the_name_that_people_know():
    found = mapping().group("CN=sales,DC=demo,DC=test", raw(mail="sales@demo.test", displayName="Sales and more"))
    assert (found.kind, found.fields["last_name"], addresses(found)) == ("list", "Sales and more", ["sales@demo.test"])
    assert mapping().group("CN=sales,DC=demo,DC=test", raw()).fields["last_name"] == "sales"


@pytest.mark.spec("S10")
def test_a_public_folder_is_none_of_the_users():
    assert mapping().public_folder("CN=Info,DC=demo,DC=test", raw(mail="info@demo.test")).kind == "public_folder"


def test_a_user_of_a_posix_directory_is_a_member_by_dn_or_by_login():
    assert user("openldap", "uid=Ann,dc=demo", uid="Ann").refs == ("uid=ann,dc=demo", "uid:ann")


def test_the_primary_group_is_known_by_the_last_part_of_its_sid():
    sid = bytes([1, 5, 0, 0, 0, 0, 0, 5]) + b"".join(part.to_bytes(4, "little") for part in (21, 1, 2, 3, 513))
    assert relative_identifier(raw(objectSid=sid)) == 513
    assert primary_group(raw(primaryGroupID=513)) == 513
    assert relative_identifier(raw()) is None


NAMES = ("mail", "proxyaddresses", "objectguid", "notes", "useraccountcontrol", "objectsid", "ms-ds-consistencyguid")


@given(
    st.dictionaries(st.sampled_from(NAMES), st.lists(st.binary(max_size=40), max_size=4)),
    st.text(min_size=1, max_size=60),
)
def test_no_object_makes_the_mapping_fail(attributes: dict[str, list[bytes]], dn: str):
    for preset in ("ad", "openldap"):
        one = mapping(preset, primary_from_upn=True, include_hidden=False)
        assert one.user(dn, attributes).id
        assert one.group(dn, attributes).kind == "list"

"""What Exchange writes into Active Directory about mailboxes: which are people, and which are its own.

Values of `msExchRecipientTypeDetails`; a remote one is its twin in Exchange Online.
"""

import re
from typing import Final

from postern_sync.rules.entries import Kind

SHARED: Final = frozenset({
    4,  # SharedMailbox
    34_359_738_368,  # RemoteSharedMailbox
    137_438_953_472,  # TeamMailbox
    274_877_906_944,  # RemoteTeamMailbox
})  # fmt: skip
RESOURCES: Final = frozenset({
    16,  # RoomMailbox
    32,  # EquipmentMailbox
    8_589_934_592,  # RemoteRoomMailbox
    17_179_869_184,  # RemoteEquipmentMailbox
    2_199_023_255_552,  # LinkedRoomMailbox
})  # fmt: skip
# Types whose account is the person's own: disabled, they have left. Any other type's account is disabled by design.
PEOPLE: Final = frozenset({
    0,  # none
    1,  # UserMailbox
    8,  # LegacyMailbox
    128,  # MailUser
    65_536,  # User
    2_097_152,  # DisabledUser
    2_147_483_648,  # RemoteUserMailbox
})  # fmt: skip
SYSTEM: Final = frozenset({
    8_192,  # SystemAttendantMailbox
    16_384,  # SystemMailbox
    4_194_304,  # MicrosoftExchange
    8_388_608,  # ArbitrationMailbox
    16_777_216,  # MailboxPlan
    536_870_912,  # DiscoveryMailbox
    68_719_476_736,  # PublicFolderMailbox
    549_755_813_888,  # MonitoringMailbox
    4_398_046_511_104,  # AuditLogMailbox
})  # fmt: skip
_SYSTEM_NAME: Final = re.compile(
    r"HealthMailbox[-0-9a-f]*|SystemMailbox\{[-0-9a-f]+\}|DiscoverySearchMailbox ?\{[-0-9a-f]+\}"
    r"|(?:FederatedEmail|Migration)\.[-0-9a-f]+",
    re.IGNORECASE,
)


def kind_of(recipient_type: int | None, *, is_disabled: bool) -> Kind:
    """What a mailbox is (SPEC S10): a disabled account of a kind that is no person's is a shared mailbox."""
    if recipient_type is None:
        return "user"
    if recipient_type in RESOURCES:
        return "resource"
    if recipient_type in SHARED or (is_disabled and recipient_type not in PEOPLE):
        return "shared"
    return "user"


def is_system(recipient_type: int | None, *names: str) -> bool:
    """Whether a mailbox is one of Exchange's own, by its type or by the name it was made with."""
    return recipient_type in SYSTEM or any(_SYSTEM_NAME.fullmatch(name) is not None for name in names)

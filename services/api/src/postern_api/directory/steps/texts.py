"""The steps on the provider's side, in order, with what is copied where (SPEC E4, L1).

A front-end shows them beside the form: `fields` names the fields of `PUT …/directory` that a step's values go into.
"""

from collections.abc import Mapping
from typing import Final

from postern_api.directory.steps.schemas import Copied, Step
from postern_common.directory_documents import Provider

PERMISSIONS: Final = ("Directory.Read.All", "Group.Read.All", "GroupMember.Read.All", "User.Read.All")
ENTRA_PORTAL: Final = "https://entra.microsoft.com"

_ENTRA: Final = (
    Step(
        title="Register an application",
        where="Microsoft Entra admin center, Identity, Applications, App registrations, New registration",
        link=ENTRA_PORTAL,
        actions=[
            "Sign in with an account that may register applications and grant admin consent.",
            "Give the application a name by which you will know it again, such as Postern.",
            "Under Supported account types choose Accounts in this organizational directory only (single tenant).",
            "Leave the redirect URI empty and choose Register.",
        ],
    ),
    Step(
        title="Give it the permissions",
        where="The application, API permissions",
        actions=[
            "Choose Add a permission, Microsoft Graph, Application permissions.",
            f"Tick {', '.join(PERMISSIONS)}, and choose Add permissions.",
            "In the row User.Read (delegated) choose Remove permission: it is not needed.",
            "Choose Grant admin consent. Each of the four must show Granted.",
        ],
        values=list(PERMISSIONS),
    ),
    Step(
        title="Make a client secret",
        where="The application, Certificates & secrets, Client secrets, New client secret",
        actions=[
            "Describe it and choose when it ends.",
            "Copy its Value at once: it is shown this one time. The Secret ID is not what is needed.",
            "Enter its end as well, where the application may not read it: you are warned 30, 7 and 1 days before.",
        ],
        copies=[
            Copied(what="Value of the client secret", field="/entra/client_secret"),
            Copied(what="Expires", field="/entra/credential_expires_at"),
        ],
    ),
    Step(
        title="Copy the two ids",
        where="The application, Overview",
        actions=["Copy Application (client) ID and Directory (tenant) ID. The Object ID is not what is needed."],
        copies=[
            Copied(what="Application (client) ID", field="/entra/client_id"),
            Copied(what="Directory (tenant) ID", field="/entra/tenant"),
        ],
    ),
    Step(
        title="Test, preview, synchronise",
        where="Here",
        actions=[
            "Save the settings, and test them: a permission that is missing is named.",
            "Preview shows what the first run would do, and changes nothing.",
        ],
    ),
)
_LDAP: Final = (
    Step(
        title="Make an account for reading",
        where="The directory",
        actions=[
            "Make an account for this purpose alone, with a password that does not end unnoticed.",
            "It needs to read users, groups and the members of groups below the base DN, and to write nothing.",
        ],
        copies=[Copied(what="The account's DN or user principal name", field="/ldap/user")],
    ),
    Step(
        title="Let the connection through",
        where="The firewall in front of the directory",
        actions=[
            "Allow port 636 (LDAPS), or 389 for StartTLS, from the addresses that your operator names.",
            "Where no port may be opened, an agent beside the directory connects outward instead.",
        ],
        copies=[Copied(what="Host name or address", field="/ldap/host")],
    ),
    Step(
        title="Have the certificate trusted",
        where="The directory's server",
        actions=[
            "A certificate of a public authority that names the host needs nothing.",
            "For one of your own authority copy the authority's certificate in PEM.",
        ],
        copies=[Copied(what="The authority's certificate (PEM)", field="/ldap/ca_certificates")],
    ),
    Step(
        title="Test, preview, synchronise",
        where="Here",
        actions=[
            "Save the settings, and test them: the step that fails is named, with its reason.",
            "Preview shows what the first run would do, and changes nothing.",
        ],
    ),
)
STEPS: Final[Mapping[Provider, tuple[Step, ...]]] = {"entra": _ENTRA, "ldap": _LDAP}

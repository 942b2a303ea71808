"""Microsoft Entra ID: sign-in by msal, reading through Microsoft Graph (SPEC E1 to E3, BEHAVIOURS 3.7, 3.8)."""

"""Contracts and plumbing shared by Postern's services; no rule here belongs to one service alone."""

"""What the inbound port decides at each phase of a transaction, in the order of the phases: connect, mail, rcpt,
data.
"""

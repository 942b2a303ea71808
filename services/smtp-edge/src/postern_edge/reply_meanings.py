"""What each reply means: when it is said, and what follows. The reference page shows it beside the reply.

It stands apart from `replies.py` because no session needs it.
"""

from typing import Final

MEANINGS: Final = {
    "E2001": "Answer to QUIT, or to a client that closed its side; the connection ends.",
    "E2002": "Answer to STARTTLS; the handshake follows, and whatever came with the command is discarded.",
    "E2003": "Answer to RSET; sender and recipients are forgotten.",
    "E2004": "Answer to NOOP.",
    "E2005": "Answer to HELP: the commands that are understood.",
    "E2101": "The sender is taken; a transaction is under way.",
    "E2151": "The recipient is taken.",
    "E2152": "Answer to VRFY, whatever was asked: addresses are not told to strangers.",
    "E2501": "The message is kept durably: it is ours to deliver or to return, and the trace has it under this id.",
    "E3541": "Answer to DATA; the message may come.",
    "E4301": "Something of ours failed; the log has the cause under an error id. The sender's server tries again.",
    "E4302": "The recipients cannot be read, or what is known of them is too old to refuse by; the sender's server "
    "tries again.",
    "E4311": "The message cannot be kept for want of room; the sender's server tries again.",
    "E4312": "As many bytes of messages are under way as this edge may hold; the sender's server tries again.",
    "E4321": "This edge is being stopped or replaced; another one takes the mail.",
    "E4421": "No whole command came in time; the connection ends.",
    "E4422": "The message came too slowly, or nothing more of it came; it was not kept, and the connection ends.",
    "E4531": "The message has as many recipients as one may have; the client sends the rest again in another "
    "transaction.",
    "E4532": "This recipient's customer has another size limit than the others', and no size was declared; the client "
    "sends to it in another transaction.",
    "E4551": "A command line went on past 8 KiB without an end; the connection ends.",
    "E4701": "All connections that this edge takes are in use and go on; or they are, and this client, which got "
    "nowhere for longest, makes way for another.",
    "E4702": "The client's address (for IPv6 its /64) has as many connections as one may have.",
    "E4703": "The client sent more unknown commands than a mail server does; the connection ends.",
    "E4704": "Too many commands of this connection were refused, as when addresses are guessed; the connection ends.",
    "E4705": "Too many commands came without a message; the connection ends.",
    "E4706": "The connection has carried as many messages as one may; the client opens another and goes on.",
    "E4711": "A customer is about to prove that the domain is theirs; the sender's server tries again until then.",
    "E5001": "The command is none.",
    "E5002": "The command line is longer than its command may be.",
    "E5003": "The command has control characters, or is no UTF-8.",
    "E5004": "A line of the message is longer than the limit; nothing is ever wrapped.",
    "E5011": "HELO and EHLO need a name; this one is none, or could not stand in a header.",
    "E5012": "The command takes no argument, or needs one.",
    "E5013": "A parameter of MAIL or RCPT stands twice, or has a value that it cannot have.",
    "E5021": "The command is known and not offered here: AUTH, BDAT, EXPN, or STARTTLS where there is no certificate.",
    "E5031": "The client has not said EHLO or HELO, or must say it again after STARTTLS.",
    "E5032": "A second MAIL in one transaction; the first sender stays.",
    "E5033": "RCPT or DATA came before MAIL.",
    "E5034": "DATA came when no recipient had been taken.",
    "E5035": "STARTTLS came when TLS was active.",
    "E5112": "The domain is served here, its customer takes known recipients only, and this one is not known.",
    "E5131": "The recipient is no address in angle brackets.",
    "E5132": "The recipient's address is longer than one may be.",
    "E5171": "The sender is no address in angle brackets.",
    "E5172": "The sender's address is longer than one may be.",
    "E5211": "A CR or an LF stood alone in a command or a message. It may hide a second message (SMTP smuggling), so "
    "nothing of it is kept and the connection ends.",
    "E5212": "The client speaks another protocol, as HTTP or TLS; the connection ends.",
    "E5341": "The declared size, or the message itself, is larger than the customer or this edge takes.",
    "E5461": "The message has more than 100 Received fields: it goes in a circle.",
    "E5541": "The message came before the 354 that it has to wait for; the connection ends.",
    "E5551": "MAIL or RCPT has a parameter of no extension that is offered here.",
    "E5561": "The sender's address is international, and MAIL did not say SMTPUTF8.",
    "E5562": "The recipient's address is international, and MAIL did not say SMTPUTF8.",
    "E5601": "The message has a NUL octet, which no server may send.",
    "E5602": "The message's header section does not end within 256 KiB.",
    "E5711": "No customer has the recipient's domain, or its proof has expired.",
}

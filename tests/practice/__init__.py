"""The practice exchange: the server, the protocol, REST, the market and the account behind it."""

"""The practice exchange: Kraken's WebSocket API v1 and public REST API, on this machine.

    any client ── ws.kraken.com ─────── WebSocket v1 ─┐
               ── ws-auth.kraken.com ── WebSocket v1 ─┼─ one market, one account
               ── api.kraken.com ────── REST ─────────┘
               └ by a proxy, or sealed └ all on loopback, with TLS

The command tests/exchange.py runs it around another command. The modules, from outside to inside:

    sealed         lets a command reach no other address (Linux)
    authority      issues certificates for the real host names, and tells clients to trust them
    server         proxy, TLS, HTTP and WebSocket: the only module that waits
    replay         a server that sends a recording instead of the market
    connection     one WebSocket connection: requests, their answers, and subscriptions
    private_feeds  what the subscribers of openOrders and ownTrades are told
    exchange       what all connections share: time, channels, and the answers to REST calls
    credentials    the API key, signatures and tokens
    faults         what goes wrong on purpose, once it is switched on
    limits         how many requests, and how many failed calls, the exchange takes
    rest           the public REST API
    account        orders and money
    market         order books, trades and candles, which change by chance
    common         the hosts' names, and how a message is written

From connection inwards there are no sockets and no waiting: a caller says how late it is. A test
can therefore let a day pass in a moment, and the same seed gives the same market.
"""

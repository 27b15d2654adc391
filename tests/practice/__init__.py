"""The practice exchange: Kraken's WebSocket API v1 and public REST API, on this machine.

    any client ── ws.kraken.com ─────── WebSocket v1 ─┐
               ── ws-auth.kraken.com ── WebSocket v1 ─┼─ one market, one account
               ── api.kraken.com ────── REST ─────────┘
               └ by a proxy, or sealed └ all on loopback, with TLS

The command tests/exchange.py runs it around another command. The modules, from outside to inside:

    sealed     lets a command reach no other address (Linux)
    authority  issues certificates for the real host names, and tells clients to trust them
    server     proxy, TLS, HTTP and WebSocket: the only module that waits
    replay     a server that sends a recording instead of the market
    protocol   requests and their answers, subscriptions, tokens, faults
    rest       the public REST API
    account    orders and money
    market     order books, trades and candles, which change by chance

From protocol inwards there are no sockets and no waiting: a caller says how late it is. A test can
therefore let a day pass in a moment, and the same seed gives the same market.
"""

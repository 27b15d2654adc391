"""What a command line becomes on the wire. In process: words in, text out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import krakenws
from krakenws import TABLE, Failure, build_request, encode


def wire(line: str, *more: str) -> str:
    """Return the text that is sent for the words of LINE and MORE, with the token T/+."""
    name, *words = [*line.split(), *more]
    return encode(build_request(name, words, "T/+"))


def case(sentence: str, line: str, text: str) -> object:
    """Return a row of the table below."""
    return pytest.param(line, text, id=sentence)


# What the original sends, byte for byte: each text was taken from it over the wire.
FAITHFUL = [
    case("ping", "ping", '{"event":"ping"}'),
    case("ping ignores words", "ping XBT/USD 5", '{"event":"ping"}'),
    case(
        "documented: ticker of one pair",
        "ticker XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["XBT/USD"]}',
    ),
    case(
        "documented: ticker of three pairs",
        "ticker XBT/USD ETH/EUR XDG/XBT",
        '{"event":"subscribe", "subscription":{"name":"ticker"},'
        ' "pair":["XBT/USD","ETH/EUR","XDG/XBT"]}',
    ),
    case(
        "documented: spread of four pairs",
        "spread XBT/USD XBT/EUR ETH/USD LTC/EUR",
        '{"event":"subscribe", "subscription":{"name":"spread"},'
        ' "pair":["XBT/USD","XBT/EUR","ETH/USD","LTC/EUR"]}',
    ),
    case(
        "documented: book with the depth last",
        "book XBT/USD XBT/EUR 10",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":10},'
        ' "pair":["XBT/USD","XBT/EUR"]}',
    ),
    case(
        "documented: book of one pair",
        "book ETH/USD 10",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":10}, "pair":["ETH/USD"]}',
    ),
    case(
        "documented: candles of an hour",
        "ohlc LTC/EUR XBT/USD 60",
        '{"event":"subscribe", "subscription":{"name":"ohlc", "interval":60},'
        ' "pair":["LTC/EUR","XBT/USD"]}',
    ),
    case(
        "trades",
        "trade XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"trade"}, "pair":["XBT/USD"]}',
    ),
    case(
        "a number means nothing to trade",
        "trade XBT/USD 5",
        '{"event":"subscribe", "subscription":{"name":"trade"}, "pair":["XBT/USD"]}',
    ),
    case(
        "pairs are upper-cased",
        "ticker xbt/usd Eth/Usd",
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["XBT/USD","ETH/USD"]}',
    ),
    case(
        "a pair twice is sent twice",
        "ticker XBT/USD XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["XBT/USD","XBT/USD"]}',
    ),
    case(
        "upper-casing is Unicode's",
        "ticker é/USD ß/usd",
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["É/USD","SS/USD"]}',
    ),
    case(
        "a percent sign is only a character",
        "ticker %s/USD",
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["%S/USD"]}',
    ),
    case(
        "a negative number is taken for a pair",
        "ticker -5 XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["-5","XBT/USD"]}',
    ),
    case(
        "a fraction is taken for a pair",
        "ticker 1.5 XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["1.5","XBT/USD"]}',
    ),
    case(
        "book's default depth",
        "book XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":10}, "pair":["XBT/USD"]}',
    ),
    case(
        "a depth may come first",
        "book 25 ETH/USD",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":25}, "pair":["ETH/USD"]}',
    ),
    case(
        "the last depth wins",
        "book XBT/USD 10 XBT/EUR 100",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":100},'
        ' "pair":["XBT/USD","XBT/EUR"]}',
    ),
    case(
        "depth 0 is the default",
        "book XBT/USD 0",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":10}, "pair":["XBT/USD"]}',
    ),
    case(
        "a depth of 0 after another is the default, too",
        "book XBT/USD 100 0",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":10}, "pair":["XBT/USD"]}',
    ),
    case(
        "a depth loses its leading zeros",
        "book XBT/USD 007",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":7}, "pair":["XBT/USD"]}',
    ),
    case(
        "an unsupported depth is for the exchange to judge",
        "book XBT/USD 42",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":42}, "pair":["XBT/USD"]}',
    ),
    case(
        "decimal digits of another script are a number",
        "book ٢٥ XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":25}, "pair":["XBT/USD"]}',
    ),
    case(
        "the default interval",
        "ohlc XBT/USD",
        '{"event":"subscribe", "subscription":{"name":"ohlc", "interval":1}, "pair":["XBT/USD"]}',
    ),
    case(
        "interval 0 is the default",
        "ohlc XBT/USD 0",
        '{"event":"subscribe", "subscription":{"name":"ohlc", "interval":1}, "pair":["XBT/USD"]}',
    ),
    case(
        "documented: openOrders",
        "openOrders",
        '{"event":"subscribe", "subscription":{"name":"openOrders", "token":"T/+"}}',
    ),
    case(
        "openOrders with the rate counter",
        "openOrders ratecounter=true",
        '{"event":"subscribe",'
        ' "subscription":{"name":"openOrders", "ratecounter":true, "token":"T/+"}}',
    ),
    case(
        "a number stays as it was typed",
        "openOrders ratecounter=-1.50",
        '{"event":"subscribe",'
        ' "subscription":{"name":"openOrders", "ratecounter":-1.50, "token":"T/+"}}',
    ),
    case(
        "documented: ownTrades",
        "ownTrades",
        '{"event":"subscribe", "subscription":{"name":"ownTrades", "token":"T/+"}}',
    ),
    case(
        "ownTrades without the snapshot",
        "ownTrades snapshot=false",
        '{"event":"subscribe",'
        ' "subscription":{"name":"ownTrades", "snapshot":false, "token":"T/+"}}',
    ),
    case(
        "balances",
        "balances",
        '{"event":"subscribe", "subscription":{"name":"balances", "token":"T/+"}}',
    ),
    case(
        "documented: a market order",
        "addOrder pair=XBT/USD type=buy ordertype=market volume=0.002 leverage=5",
        '{"event":"addOrder", "token":"T/+", "pair":"XBT/USD", "type":"buy",'
        ' "ordertype":"market", "volume":"0.002", "leverage":"5"}',
    ),
    case(
        "documented: a limit order",
        "addOrder pair=XBT/EUR type=sell ordertype=limit price=7500 volume=0.125",
        '{"event":"addOrder", "token":"T/+", "pair":"XBT/EUR", "type":"sell",'
        ' "ordertype":"limit", "price":"7500", "volume":"0.125"}',
    ),
    case(
        "prices with signs, flags with commas",
        "addOrder pair=XBT/USD type=sell ordertype=stop-loss-limit price=#5% price2=-0.5%"
        " volume=1 oflags=post,fciq userref=42 timeinforce=GTC expiretm=+60",
        '{"event":"addOrder", "token":"T/+", "pair":"XBT/USD", "type":"sell",'
        ' "ordertype":"stop-loss-limit", "price":"#5%", "price2":"-0.5%", "volume":"1",'
        ' "oflags":"post,fciq", "userref":"42", "timeinforce":"GTC", "expiretm":"+60"}',
    ),
    case(
        "a conditional close",
        "addOrder pair=XBT/USD close[ordertype]=limit close[price]=9100",
        '{"event":"addOrder", "token":"T/+", "pair":"XBT/USD",'
        ' "close[ordertype]":"limit", "close[price]":"9100"}',
    ),
    case(
        "validate is text, reqid a number, in the order typed",
        "addOrder validate=true pair=XBT/USD reqid=7",
        '{"event":"addOrder", "token":"T/+", "validate":"true", "pair":"XBT/USD", "reqid":7}',
    ),
    case(
        "a negative reqid is for the exchange to judge",
        "addOrder reqid=-3",
        '{"event":"addOrder", "token":"T/+", "reqid":-3}',
    ),
    case(
        "cl_ord_id of a new order is text",
        "addOrder cl_ord_id=a,b",
        '{"event":"addOrder", "token":"T/+", "cl_ord_id":"a,b"}',
    ),
    case(
        "a value may be empty",
        "addOrder oflags=",
        '{"event":"addOrder", "token":"T/+", "oflags":""}',
    ),
    case("an order may say nothing", "addOrder", '{"event":"addOrder", "token":"T/+"}'),
    case(
        "non-ASCII goes out as itself",
        "addOrder userref=é",
        '{"event":"addOrder", "token":"T/+", "userref":"é"}',
    ),
    case(
        "any name is a member",
        "addOrder {}=[]",
        '{"event":"addOrder", "token":"T/+", "{}":"[]"}',
    ),
    case(
        "editOrder",
        "editOrder orderid=O26VH7-COEPR-YFYXLK pair=XBT/USD price=9000 newuserref=666 oflags="
        " reqid=3",
        '{"event":"editOrder", "token":"T/+", "orderid":"O26VH7-COEPR-YFYXLK",'
        ' "pair":"XBT/USD", "price":"9000", "newuserref":"666", "oflags":"", "reqid":3}',
    ),
    case(
        "a txid is a list everywhere in the original",
        "editOrder txid=OADMSD-7AGC3-IMB46A",
        '{"event":"editOrder", "token":"T/+", "txid":["OADMSD-7AGC3-IMB46A"]}',
    ),
    case(
        "documented: cancelOrder",
        "cancelOrder txid=O6L3CW-FD5CZ-NE373X",
        '{"event":"cancelOrder", "token":"T/+", "txid":["O6L3CW-FD5CZ-NE373X"]}',
    ),
    case(
        "documented: cancelOrder of two",
        "cancelOrder txid=OADMSD-7AGC3-IMB46A,OD6VRE-HCSPM-CKORER",
        '{"event":"cancelOrder", "token":"T/+",'
        ' "txid":["OADMSD-7AGC3-IMB46A","OD6VRE-HCSPM-CKORER"]}',
    ),
    case(
        "an empty txid",
        "cancelOrder txid=A,,B",
        '{"event":"cancelOrder", "token":"T/+", "txid":["A","","B"]}',
    ),
    case("documented: cancelAll", "cancelAll", '{"event":"cancelAll", "token":"T/+"}'),
    case(
        "the largest reqid",
        "cancelAll reqid=18446744073709551615",
        '{"event":"cancelAll", "token":"T/+", "reqid":18446744073709551615}',
    ),
    case(
        "cancelAllOrdersAfter",
        "cancelAllOrdersAfter timeout=60",
        '{"event":"cancelAllOrdersAfter", "token":"T/+", "timeout":60}',
    ),
    case(
        "cancelAllOrdersAfter, called off",
        "cancelAllOrdersAfter timeout=0 reqid=1608543428050",
        '{"event":"cancelAllOrdersAfter", "token":"T/+", "timeout":0, "reqid":1608543428050}',
    ),
]

# What the original can't send, or sends with another meaning.
BETTER = [
    case("ping with a reqid", "ping reqid=42", '{"event":"ping", "reqid":42}'),
    case(
        "a value keeps its equals signs",
        "addOrder a=b=c",
        '{"event":"addOrder", "token":"T/+", "a":"b=c"}',
    ),
    case(
        "a quote doesn't break out of its value",
        'addOrder userref=1","volume":"9',
        '{"event":"addOrder", "token":"T/+", "userref":"1\\",\\"volume\\":\\"9"}',
    ),
    case(
        "a backslash is only a character",
        r"addOrder userref=\u0041\n",
        r'{"event":"addOrder", "token":"T/+", "userref":"\\u0041\\n"}',
    ),
    case(
        "a quote doesn't break out of a pair",
        'ticker A","B',
        '{"event":"subscribe", "subscription":{"name":"ticker"}, "pair":["A\\",\\"B"]}',
    ),
    case(
        "a quote doesn't break out of a txid",
        'cancelOrder txid=A"],"x":["B',
        '{"event":"cancelOrder", "token":"T/+", "txid":["A\\"]","\\"x\\":[\\"B"]}',
    ),
    case(
        "reduce_only is a boolean",
        "addOrder reduce_only=true margin=false",
        '{"event":"addOrder", "token":"T/+", "reduce_only":true, "margin":false}',
    ),
    case(
        "amendOrder, whose txid is text",
        "amendOrder txid=OB54AL-OBWL7-YOYRZI limit_price=9000 post_only=true",
        '{"event":"amendOrder", "token":"T/+", "txid":"OB54AL-OBWL7-YOYRZI",'
        ' "limit_price":"9000", "post_only":true}',
    ),
    case(
        "a cancelled cl_ord_id is a list",
        "cancelOrder cl_ord_id=a,b",
        '{"event":"cancelOrder", "token":"T/+", "cl_ord_id":["a","b"]}',
    ),
    case(
        "an option of ownTrades goes by its own name",
        "ownTrades consolidate_taker=false snapshot=true",
        '{"event":"subscribe", "subscription":{"name":"ownTrades",'
        ' "consolidate_taker":false, "snapshot":true, "token":"T/+"}}',
    ),
    case(
        "balances takes options as the others do",
        "balances snapshot=true",
        '{"event":"subscribe", "subscription":{"name":"balances", "snapshot":true, "token":"T/+"}}',
    ),
    case(
        "an option that is no number and no boolean is text",
        "openOrders ratecounter=007 x=NaN y=True z=1e5",
        '{"event":"subscribe", "subscription":{"name":"openOrders", "ratecounter":"007",'
        ' "x":"NaN", "y":"True", "z":1e5, "token":"T/+"}}',
    ),
    case(
        "depth by its name, and reqid last",
        "book reqid=5 depth=100 XBT/USD snapshot=false",
        '{"event":"subscribe", "subscription":{"name":"book", "depth":100, "snapshot":false},'
        ' "pair":["XBT/USD"], "reqid":5}',
    ),
    case(
        "reqid on a private feed",
        "openOrders reqid=5",
        '{"event":"subscribe", "subscription":{"name":"openOrders", "token":"T/+"}, "reqid":5}',
    ),
    case(
        "interval by its name",
        "ohlc XBT/USD interval=60",
        '{"event":"subscribe", "subscription":{"name":"ohlc", "interval":60}, "pair":["XBT/USD"]}',
    ),
    case(
        "depth on another feed, for the exchange to judge",
        "ticker XBT/USD 5 depth=10",
        '{"event":"subscribe", "subscription":{"name":"ticker", "depth":10}, "pair":["XBT/USD"]}',
    ),
    case(
        "the name of a request's boolean is any other name on a feed",
        "ticker XBT/USD margin=foo reduce_only=true post_only=1 validate=true",
        '{"event":"subscribe", "subscription":{"name":"ticker", "margin":"foo",'
        ' "reduce_only":true, "post_only":1, "validate":true}, "pair":["XBT/USD"]}',
    ),
    case(
        "the name of a list is any other name on a feed",
        "openOrders txid=a,b cl_ord_id=1 volume=5",
        '{"event":"subscribe", "subscription":{"name":"openOrders", "txid":"a,b",'
        ' "cl_ord_id":1, "volume":5, "token":"T/+"}}',
    ),
    case(
        "the name of a subscription's member is text on a request",
        "addOrder snapshot=true depth=10 interval=5 name=x ratecounter=false",
        '{"event":"addOrder", "token":"T/+", "snapshot":"true", "depth":"10",'
        ' "interval":"5", "name":"x", "ratecounter":"false"}',
    ),
    case(
        "the names of a request's members on ping",
        "ping margin=true txid=a,b reqid=1 pair=XBT/USD",
        '{"event":"ping", "margin":true, "txid":["a","b"], "reqid":1, "pair":"XBT/USD"}',
    ),
    case(
        "an xStock keeps its x",
        "ticker TSLAx/USD AAPLx/usd BRK.Bx/USD",
        '{"event":"subscribe", "subscription":{"name":"ticker"},'
        ' "pair":["TSLAx/USD","AAPLx/USD","BRK.Bx/USD"]}',
    ),
    case(
        "a small x elsewhere is upper-cased",
        "ticker tslax/usd XBTx xbtx/USD x/USD",
        '{"event":"subscribe", "subscription":{"name":"ticker"},'
        ' "pair":["TSLAX/USD","XBTX","XBTX/USD","X/USD"]}',
    ),
]


@pytest.mark.parametrize(("line", "text"), FAITHFUL)
def test_faithful(line: str, text: str) -> None:
    """The original's text is sent, to the byte."""
    assert wire(line) == text


@pytest.mark.parametrize(("line", "text"), BETTER)
def test_better(line: str, text: str) -> None:
    """Where the original sends something else than was typed, what was typed is sent."""
    assert wire(line) == text
    json.loads(text)


def test_empty_pair() -> None:
    """An empty word is a pair like any other."""
    assert wire("book", "", "XBT/USD").endswith('"pair":["","XBT/USD"]}')


def test_no_pair_with_a_space_is_split() -> None:
    """A word is one pair, whatever is in it."""
    assert wire("ticker", "XBT/USD ETH/USD").endswith('"pair":["XBT/USD ETH/USD"]}')


REFUSED = [
    pytest.param("addOrder foo", "foo", id="a word with no = on a request"),
    pytest.param("cancelOrder OADMSD-7AGC3-IMB46A", "OADMSD-7AGC3-IMB46A", id="an id with no name"),
    pytest.param("openOrders 5", "5", id="a number on a private feed"),
    pytest.param("addOrder =5", "=5", id="an empty name"),
    pytest.param("ticker XBT/USD =5", "=5", id="an empty name on a feed"),
    pytest.param("addOrder price=1 price=1", "price", id="a name given twice"),
    pytest.param("book XBT/USD 10 depth=25", "depth", id="a depth given in two ways"),
    pytest.param("addOrder event=cancelAll", "event", id="event on a request"),
    pytest.param("addOrder token=x", "token", id="token on a request"),
    pytest.param("ticker XBT/USD event=x", "event", id="event on a feed"),
    pytest.param("ticker XBT/USD token=x", "token", id="token on a feed"),
    pytest.param("ticker XBT/USD name=book", "name", id="name on a feed"),
    pytest.param("ping event=x", "event", id="event on ping"),
    pytest.param("addOrder reqid=", "reqid", id="an empty integer"),
    pytest.param("addOrder reqid=x", "reqid", id="a word for an integer"),
    pytest.param("addOrder reqid=1.0", "reqid", id="a fraction for an integer"),
    pytest.param("addOrder reqid=007", "reqid", id="an integer that JSON doesn't know"),
    pytest.param("addOrder reqid=٣", "reqid", id="an integer in other digits"),
    pytest.param("ticker XBT/USD reqid=x", "reqid", id="reqid on a feed"),
    pytest.param("cancelAllOrdersAfter timeout=1e3", "timeout", id="a timeout with an exponent"),
    pytest.param("addOrder reduce_only=True", "reduce_only", id="a capital boolean"),
    pytest.param("addOrder margin=1", "margin", id="a number for a boolean"),
    pytest.param("addOrder margin=foo", "margin", id="a word for a boolean"),
    pytest.param("ticker XBT/USD timeout=foo", "timeout", id="a word for an integer on a feed"),
    pytest.param("openOrders reqid=true", "reqid", id="a boolean for an integer on a feed"),
    pytest.param("ping timeout=x", "timeout", id="a word for an integer on ping"),
    pytest.param("amendOrder post_only=", "post_only", id="an empty boolean"),
]


@pytest.mark.parametrize(("line", "name"), REFUSED)
def test_refused(line: str, name: str) -> None:
    """A parameter that can't be sent as it is meant is refused by name."""
    with pytest.raises(Failure) as failure:
        wire(line)
    assert f"Parameter {name} " in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("line", ["ticker", "ticker 5", "book 10 depth=5", "ohlc pair=XBT/USD"])
def test_no_pair(line: str) -> None:
    """A market feed with no pair is a usage error."""
    with pytest.raises(Failure, match=r"^Usage: "):
        wire(line)


def test_an_integer_of_any_length() -> None:
    """A named integer is never converted, so it has no such limit."""
    assert wire("cancelAll reqid=" + "9" * 5000).endswith("9" * 5000 + "}")


def test_usage_names_everything() -> None:
    """The usage text has every name of the table."""
    assert set(TABLE) <= set(krakenws.usage().split())


words = st.text().filter(lambda text: all(not "\ud800" <= char <= "\udfff" for char in text))
names = words.filter(lambda name: name and "=" not in name)


@given(name=st.sampled_from(sorted(TABLE)), given_words=st.lists(words))
def test_any_words(name: str, given_words: list[str]) -> None:
    """Any words give a sentence, or JSON in which nothing stands that was not typed."""
    try:
        text = encode(build_request(name, given_words, "T"))
    except Failure:
        return
    request = json.loads(text)
    members = {**request, **request.pop("subscription", {})}
    typed = {word.partition("=")[0] for word in given_words}
    assert set(members) - typed <= {
        "event",
        "token",
        "name",
        "pair",
        "subscription",
        TABLE[name].number,
    }


@given(parameters=st.dictionaries(names, words))
def test_any_parameters(parameters: dict[str, str]) -> None:
    """The exchange reads the very names and values that were typed, in that order."""
    typed = ("event", "token", *krakenws.INTEGERS, *krakenws.BOOLEANS, "txid")
    parameters = {name: value for name, value in parameters.items() if name not in typed}
    text = encode(build_request("addOrder", [f"{n}={v}" for n, v in parameters.items()], "T"))
    assert list(json.loads(text).items())[2:] == list(parameters.items())

"""
Calls of an API that are right but for something: what a fuzz test sends, made by chance from a seed.

Each request has a number in its query, so that the API's journal tells which ones came.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

FOREIGN = "of-somebody-else"
"""In every value that must not reach the API."""

OWN = "of-the-caller"
"""In every value that should."""

DROPPED = [
    "Authorization", "Proxy-Authorization", "Proxy-Connection", "Proxy-Anything", "DPoP", "Cookie", "Forwarded",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Client-Cert", "Client-Cert",
    "Client-Cert-Chain", "X-Client-Cert", "X-Amzn-Mtls-Client-Cert", "X-Amzn-Mtls-Client-Cert-Leaf",
    "X-ARR-Client-Cert", "X-SSL-Cert", "X-SSL-Client-Verify", "X-HTTP-Method", "X-HTTP-Method-Override",
    "X-Original-URL", "X-Rewrite-URL", "X-Token-Broker-Workload", "Keep-Alive", "TE", "Trailer",
]  # fmt: skip
"""What R6 drops on the way in, and what is of one hop."""


@dataclass(frozen=True)
class Door:
    """A way in: *prefix* stands before the path of the API at the socket at *path*."""

    name: str
    path: Path
    prefix: str


@dataclass(frozen=True)
class Stream:
    """What is sent on one connection, in *pieces*, and how it was made."""

    door: Door
    pieces: tuple[bytes, ...]
    is_plain: bool

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


F, OURS = FOREIGN.encode(), OWN.encode()

METHODS = [
    b"HEAD",
    b"OPTIONS",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
    b"get",
    b"",
    b"GET\0",
    b"PRI",
    b"G" * 99,
]

VERSIONS = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.1\0", b"http/1.1", b"HTTP/1.1 x", b""]

PATHS = [
    b"/../hello", b"/request/../../admin", b"/request/..", b"/request/%2e%2e/hello", b"/request/.%2E/x",
    b"/request/./x", b"/request/.", b"/request/..;/x", b"/request;x=1", b"/request/a%2fb", b"/request/a%5cb",
    b"/request/a\\b", b"/request//x", b"/request/%00", b"/request/%0d%0aX:y", b"/request/%zz", b"/request/%",
    b"/request/%c3%a4", b"/request/\xc3\xa4", b"/request/%ff", b"/request/%25252e", b"/hello/", b"/hello/x",
    b"/Hello", b"/%68ello", b"/admin", b"", b"/", b"//", b"/request#x", b"/bytes/10", b"/request/" + b"a" * 7000,
    b"/request/a*b", b"/request/~!$&'()+,=:@", b"/leaks", b"/../../sandbox/faults", b"/request/x/.../y",
    b"/request/%e2%80%ae", b"/request/%7f", b"/request/ x",
]  # fmt: skip

QUERIES = [
    b"access_token=x", b"a=1&access_token=x", b"a=1;access_token=x", b"access%5ftoken=x", b"%61ccess_token",
    b"access_token", b"+access_token=1", b"ACCESS_TOKEN=x", b"a=/../", b"a=%2e%2e%2f", b"a=%00", b"a=%zz", b"?",
    b"a=b?c", b"a=\\", b"a=#x", b"a=" + b"b" * 3000, b"a=%0d%0aX:%20y", b"b=c%", b"&&&", b"a=\xff", b"a='\"<>`{|}^",
]  # fmt: skip

FRAMING = [
    b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: 0x5",
    b"Content-Length: 5 5", b"Content-Length: ", b"Content-Length: 5.0", b"Content-Length: 05",
    b"Content-Length: 99999999999999999999999", b"Content-Length: 18446744073709551621", b"Content-Length : 5",
    b" Content-Length: 5", b"Content-Length:\x0b5", b"Content-Length: 5\x00", b"Content_Length: 5",
    b"Content-Length: 0\r\nContent-Length: 5", b"content-length: 5", b"Transfer-Encoding: chunked",
    b"transfer-encoding: CHUNKED", b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\x0bchunked", b'Transfer-Encoding: "chunked"', b"Transfer-Encoding:\r\n chunked",
    b"Transfer_Encoding: chunked", b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding: ",
    b"Transfer-Encoding: chun\xffked", b"Transfer-Encoding: chunked,", b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked", b"TE: chunked\r\nContent-Length: 5",
    b"Content-Length: 5\r\nX:\r\n Content-Length: 6",
]  # fmt: skip

ODD = [
    b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 200-ok", b"Expect: ", b"Connection: close",
    b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: websocket", b"Upgrade: h2c", b"upgrade: ",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    b"HTTP2-Settings: x", b"HTTP2_Settings: x",
    b"Connection: x-fapi-interaction-id, authorization, host, content-length, transfer-encoding", b"Connection: Host",
    b"Connection: close, Content-Length", b"Connection: , ,", b"Connection: \xff", b"Origin: http://x",
    b"Referer: http://x/", b"Sec-Fetch-Mode: cors", b"Host: localhost", b"Host: evil.example", b"host: unix",
    b"Host_: x", b"X-Fold: a\r\n b", b"X-Fold: a\r\n\tb", b"X-Bare: a\nX-B: b", b"X-Bare: a\rX-B: b",
    b"X-Ctl: a\x01b", b"X-Del: a\x7fb", b"X-Vt: a\x0bb", b"X-Nul: a\0b", b"X-High: \xff\xfe", b"X-Utf: \xc3\xa4",
    b"X-Tab: a\tb", b": empty", b"X Y: z", b"X\tY: z", b"X(Y): z", b"X\xff: z", b"NoColon", b"X-Big: " + b"z" * 9000,
    b"X-Many: z\r\n" * 90 + b"X-Last: z", b"X-Many: z\r\n" * 900 + b"X-Last: z", b"Max-Forwards: 0", b"Via: 1.0 " + F,
    b"Content-Encoding: aes128gcm", b"Accept-Encoding: br", b"Range: bytes=0-1", b"If-None-Match: *",
    b"Content-Type: a/b", b"!#$%&'*+.^_`|~: odd", b"X-Empty:", b"X-Space:   a   ",
]  # fmt: skip

SMUGGLED = b"POST {prefix}/count?smuggled=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

BODIES = [
    b"", b"12345", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b'5 ; a = "b"\r\nhello\r\n0\r\n\r\n',
    b"5\r\nhello\r\n0\r\nAuthorization: " + F + b"\r\nContent-Length: 9\r\nHost: x\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX Y\r\n\r\n", b"005\r\nhello\r\n000\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n",
    b"6\r\nhello\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"\r\n\r\n", b"5\r\nhello\r\nzz\r\n",
    b"FFFFFFFFFFFFFFFF\r\nhello", b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r",
    b"5\r\nhello\r\n0\n\n", b"5;" + b"x" * 20000 + b"\r\nhello\r\n0\r\n\r\n", b"5;\n\r\nhello\r\n0\r\n\r\n",
    b"0;a=b\r\n\r\n", b"0\r\n\r\n" + SMUGGLED, b"12345" + SMUGGLED, SMUGGLED, b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n", b"x" * 70000,
]  # fmt: skip


def spelled(name: str, rng: random.Random) -> bytes:
    """Write a field's name in another case, or with underscores."""
    changes = (
        str,
        str.lower,
        str.upper,
        str.title,
        lambda text: text.replace("-", "_"),
        lambda text: text.replace("-", "_", 1),
    )
    return rng.choice(changes)(name).encode()


def one_request(rng: random.Random, prefix: str, number: str) -> tuple[bytes, bool]:
    """Write a request that is well-formed but for one part or two; gives whether it is so in all."""
    odd = rng.sample(
        ["path", "query", "method", "version", "form", "framing", "odd", "odd", "body", "lines", "space"], 2
    )
    odd = odd[: rng.choice([0, 0, 1, 1, 1, 2])]
    method = rng.choice([b"GET", b"GET", b"POST", b"PUT"])
    path = rng.choice(
        [b"/request", b"/request/a/b"]
        + ([b"/count", b"/echo"] if method == b"POST" else [b"/hello"] if method == b"GET" else [])
    )
    method = rng.choice(METHODS) if "method" in odd else method
    path = rng.choice(PATHS) if "path" in odd else path
    query = number.encode() + (b"&" + rng.choice(QUERIES) if "query" in odd else b"")
    target = prefix.encode() + path + b"?" + query
    if "form" in odd:
        forms = [
            b"http://localhost",
            b"https://localhost",
            b"//localhost",
            b"localhost",
            b"*",
            b" ",
            b"http://evil.example",
            b"/v1/egress/other",
        ]
        target = rng.choice(forms) + target
    lines = [rng.choice([b"Host: localhost", b"host: localhost", b"HOST: token-broker"])]
    lines += [spelled(name, rng) + b": " + F for name in rng.sample(DROPPED, rng.choice([0, 2, 5]))]
    lines += [b"X-Kept-%d: %s" % (at, OURS) for at in range(rng.choice([0, 1, 2]))]
    if rng.random() < 0.15:
        lines += [
            b"Connection: close, X-Named , " + spelled("X-Other", rng),
            b"X-Named: " + F,
            spelled("X-Other", rng) + b": " + F,
        ]
    body = b""
    if method not in (b"GET", b"HEAD") and rng.random() < 0.8:
        body = rng.choice([b"12345", b"x" * 3000, b"5\r\nhello\r\n0\r\n\r\n"])
        lines.append(b"Transfer-Encoding: chunked" if body.startswith(b"5\r") else b"Content-Length: %d" % len(body))
    if "framing" in odd:
        lines = [one for one in lines if not one.startswith((b"Content-L", b"Transfer-E"))]
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(FRAMING))
        body = rng.choice(BODIES).replace(b"{prefix}", prefix.encode())
    elif "body" in odd:
        body = rng.choice(BODIES).replace(b"{prefix}", prefix.encode())
        lines = [one for one in lines if not one.startswith((b"Content-L", b"Transfer-E"))]
        lines.append(rng.choice([b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(body)]))
    if "odd" in odd:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(ODD))
    newline = rng.choice([b"\n", b"\r", b"\r\r\n"]) if "lines" in odd else b"\r\n"
    space = rng.choice([b"\t", b"  ", b"", b"\x0b"]) if "space" in odd else b" "
    version = rng.choice(VERSIONS) if "version" in odd else b"HTTP/1.1"
    return newline.join([space.join((method, target, version)), *lines, b"", b""]) + body, not odd


def one_stream(rng: random.Random, doors: tuple[Door, ...], number: int) -> Stream:
    """Write one to three requests, damage them or not, and cut them into pieces."""
    door = rng.choice(doors)
    made = [one_request(rng, door.prefix, f"n={number}.{at}") for at in range(rng.choice([1, 1, 2, 3]))]
    raw, is_plain = b"".join(one for one, _ in made), len(made) == 1 and made[0][1]
    for _ in range(rng.choice([0, 0, 0, 0, 1, 2])):
        junk = rng.choice(
            [b"", b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\xff", b":", b"0" * 40, b"\x0b", b"\t", F]
        )
        place = rng.randrange(min(len(raw), 600) + 1)
        raw, is_plain = raw[:place] + junk + raw[place + rng.choice([0, 1]) :], False
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.choice([0, 0, 1, 3, 8])))
    pieces = (raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True))
    return Stream(door, tuple(piece for piece in pieces if piece), is_plain)

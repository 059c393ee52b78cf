"""Which requests a local page answers."""

import asyncio

import pytest

from kdpose.inference.same_origin import SameOrigin

LOCAL = ("127.0.0.1", "localhost")


async def inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def asked(hosts, kind="http", **headers):
    """The first message that answers a request."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    asyncio.run(SameOrigin(inner, hosts)(scope, None, send))
    return sent[0]


@pytest.mark.parametrize(
    ("hosts", "headers", "status"),
    [
        (LOCAL, {"host": "127.0.0.1:7860"}, 200),
        (LOCAL, {"host": "localhost"}, 200),
        (LOCAL, {"host": "localhost:1", "origin": "http://localhost:1"}, 200),
        (LOCAL, {"host": "localhost:1", "origin": "http://localhost:2"}, 403),
        (LOCAL, {"host": "localhost:1", "origin": "null"}, 403),
        (LOCAL, {"host": "evil.example"}, 403),
        (LOCAL, {}, 403),
        ((), {"host": "192.168.0.2:7860"}, 200),
        ((), {"host": "192.168.0.2:7860", "origin": "http://evil.example"}, 403),
        (("::1",), {"host": "[::1]:7860"}, 200),
    ],
)
def test_only_its_own_address_and_page(hosts, headers, status):
    assert asked(hosts, **headers)["status"] == status


def test_a_socket_of_another_site_is_closed():
    message = asked(LOCAL, "websocket", host="evil.example")
    assert message == {"type": "websocket.close", "code": 1008}


def test_what_is_no_request_passes():
    assert asked(LOCAL, "lifespan")["status"] == 200

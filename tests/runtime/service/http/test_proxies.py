"""A TLS proxy in front, as the docs advise; forwarded headers; cookies of other programs on the same host."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.runtime.service.http.reverse_proxy import ReverseProxy, Rewrite, certificate
from tests.runtime.service.http.server import Serve, Served, messages
from tests.runtime.tiny_bundle import RED
from vlj_edge.errors import VljEdgeError
from vlj_edge.runtime.service.http.forwarded import LOOPBACK, check_hosts, check_networks

TOKEN = "a-token-of-this-test"

FRONT = {"hosts": ("127.0.0.1",), "allowed_hosts": ("edge.example",), "trusted_proxies": LOOPBACK, "token": TOKEN}
Front = Callable[[Served, Rewrite], httpx.Client]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return certificate(tmp_path_factory.mktemp("certificate"), "edge.example")


@pytest.fixture
def front(files: tuple[Path, Path]) -> Iterator[Front]:
    """front(server, rewrite) -> a client of a proxy in front of it."""
    made: list[ReverseProxy] = []
    clients: list[httpx.Client] = []

    class ToProxy(httpx.HTTPTransport):
        """Connects to the proxy for https://edge.example, whose name no server resolves."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            url = request.url.copy_with(host="127.0.0.1", port=made[-1].port)
            how = request.extensions | {"sni_hostname": "edge.example"}
            passed = httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=how)
            return super().handle_request(passed)

    def start(served: Served, rewrite: Rewrite) -> httpx.Client:
        made.append(ReverseProxy(served.port, files, rewrite))
        transport = ToProxy(verify=ssl.create_default_context(cafile=files[0]), trust_env=False)
        clients.append(httpx.Client(base_url="https://edge.example", transport=transport, timeout=60))
        return clients[-1]

    yield start
    for client in clients:
        client.close()
    for proxy in made:
        proxy.stop()


def as_it_is(headers: dict[str, str]) -> dict[str, str]:  # Caddy
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-host": "evil.example, edge.example"}
    return headers | {"x-forwarded-for": "203.0.113.5"} | forwarded


def own_host(headers: dict[str, str]) -> dict[str, str]:  # nginx without proxy_set_header
    return headers | {"host": "127.0.0.1:8765"}


def own_host_and_forwarded(headers: dict[str, str]) -> dict[str, str]:
    forwarded = 'for=evil;host=evil.example, for="[2001:db8::1]";host="edge.example";proto=https'
    return headers | {"host": "127.0.0.1", "forwarded": forwarded}


@pytest.mark.parametrize("rewrite", [as_it_is, own_host, own_host_and_forwarded])
def test_everything_works_behind_a_tls_proxy(
    serve: Serve, front: Front, rewrite: Rewrite, make_video: Callable[..., Path]
) -> None:
    served = serve(**FRONT)
    client = front(served, rewrite)
    browser = {"Origin": "https://edge.example", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/").status_code == 401
    login = client.get("/", params={"token": TOKEN})
    assert login.status_code == 303 and login.headers["location"] == "/"
    assert ("secure" in login.headers["set-cookie"].lower()) == (rewrite is not own_host)
    assert "<html" in client.get("/").text
    assert client.put("/api/sources/cam/settings", json={"query": "what"}, headers=browser).status_code == 200
    clip = make_video([(RED, 2)]).read_bytes()
    assert client.post("/api/embed", files={"clip": clip}, headers=browser).json()["windows"]
    with client.stream("GET", "/api/events", headers={"Sec-Fetch-Site": "same-origin"}) as answer:
        assert next(messages(answer))[0] in ("narration", "window", "state")
    evil = {"Origin": "https://evil.example"}
    assert client.put("/api/sources/cam/settings", json={"query": "x"}, headers=evil).status_code == 403


def test_an_old_browser_behind_a_proxy(serve: Serve, front: Front) -> None:
    client = front(serve(**FRONT), own_host)
    client.get("/", params={"token": TOKEN})
    for origin, code in (("https://edge.example", 404), ("https://edge.example:99", 403), ("https://127.0.0.1", 403)):
        assert client.post("/api/settings/save", headers={"Origin": origin}).status_code == code


@pytest.mark.parametrize("said", [{"X-Forwarded-Host": "edge.example"}, {"Forwarded": "host=edge.example;proto=https"}])
def test_only_trusted_proxies_are_believed(serve: Serve, said: dict[str, str]) -> None:
    with serve(token=TOKEN).client(**said, **{"X-Forwarded-Proto": "https"}) as client:
        answer = client.get("/", params={"token": TOKEN})
        assert answer.status_code == 303 and "secure" not in answer.headers["set-cookie"].lower()
        evil = {"Origin": "https://edge.example", "Authorization": f"Bearer {TOKEN}"}
        assert client.post("/api/settings/save", headers=evil).status_code == 403
    with serve(**FRONT | {"trusted_proxies": ("192.0.2.0/24",)}).client(**said) as client:
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
    with serve(**FRONT).client() as client:
        assert client.get("/healthz", headers={"X-Forwarded-Host": "evil.example"}).status_code == 400
        assert client.get("/healthz", headers={"Forwarded": 'host="evil.example"'}).status_code == 400
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
        assert client.get("/healthz", headers={"Host": "Edge.Example:8443"}).status_code == 200


@pytest.mark.parametrize(
    "others", ['grafana={"a": 1}; x[0]=1; a b=c', "=; ;;; €=1; vlj-edge-1=x", "big=" + "x" * 30_000, 'q="a; b']
)
def test_cookies_of_other_programs_do_not_matter(serve: Serve, others: str) -> None:
    one, other = serve(token=TOKEN), serve(token="another-token-of-it")
    found = []
    for served, token in ((one, TOKEN), (other, "another-token-of-it")):
        with served.client() as client:
            found.append(client.get("/", params={"token": token}).headers["set-cookie"].partition(";")[0])
    assert found[0].partition("=")[0] != found[1].partition("=")[0], "browsers send cookies to every port"
    for served in (one, other):
        with served.client() as client:
            both = {b"Cookie": f"{others}; {found[0]}; {found[1]}".encode()}
            assert client.get("/api/state", headers=both).status_code == 200
            assert client.get("/api/state", headers={b"Cookie": others.encode()}).status_code == 401


@pytest.mark.parametrize("host", ["https://edge.example", "edge example", "edge.example/x", "", "a:b", "[::1"])
def test_a_wrong_name_is_refused(host: str) -> None:
    with pytest.raises(VljEdgeError, match="--allowed-host"):
        check_hosts([host])
    with pytest.raises(VljEdgeError, match="--trusted-proxy"):
        check_networks([host])


def test_names_and_networks() -> None:
    assert check_hosts(["Edge.Example", "[::1]:8443", "a-b:1"]) == ("edge.example", "[::1]:8443", "a-b:1")
    assert check_networks(["::1", "172.17.0.0/16"]) == ("::1", "172.17.0.0/16")

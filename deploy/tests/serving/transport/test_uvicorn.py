"""The undocumented members of uvicorn that transport/http.py and server.py use."""

import asyncio
import inspect
from types import SimpleNamespace

import pytest

uvicorn = pytest.importorskip("uvicorn")
from uvicorn.config import STARTUP_FAILURE  # noqa: E402
from uvicorn.protocols.http import httptools_impl  # noqa: E402
from uvicorn.server import ServerState  # noqa: E402
from uvicorn.supervisors import Multiprocess  # noqa: E402

ADVICE = (
    f"uvicorn {uvicorn.__version__} is not the one that transport/http.py is written for: compare "
    "its httptools_impl.py with that file, then move the cap in deploy/pyproject.toml."
)


@pytest.fixture
def protocol():
    config = uvicorn.Config(lambda scope, receive, send: None, http="httptools", lifespan="off")
    config.load()
    loop = asyncio.new_event_loop()
    yield httptools_impl.HttpToolsProtocol(config, ServerState(), {}, _loop=loop)
    loop.close()


@pytest.mark.parametrize(
    "name",
    ["app_state", "cycle", "flow", "headers", "loop", "parser", "pipeline", "scope", "transport"],
)
def test_the_attributes_of_a_connection(protocol, name):
    assert hasattr(protocol, name), f"{name} is gone. {ADVICE}"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("connection_made", ["self", "transport"]),
        ("connection_lost", ["self", "exc"]),
        ("data_received", ["self", "data"]),
        ("on_headers_complete", ["self"]),
        ("on_body", ["self", "body"]),
        ("on_message_complete", ["self"]),
        ("on_response_complete", ["self"]),
        ("_unset_keepalive_if_required", ["self"]),
    ],
)
def test_the_methods_of_a_connection(name, parameters):
    method = getattr(httptools_impl.HttpToolsProtocol, name, None)
    assert method is not None, f"{name}() is gone. {ADVICE}"
    found = list(inspect.signature(method).parameters)
    assert found == parameters, f"{name}() takes {found}. {ADVICE}"


def test_members_when_a_request_begins(protocol):
    """A request has a state, a url, headers, and a cycle that says how far it is."""
    written = []
    transport = SimpleNamespace(
        get_extra_info=lambda name, default=None: default,
        is_closing=lambda: False,
        pause_reading=lambda: None,
        resume_reading=lambda: None,
        write=written.append,
        close=lambda: None,
    )

    async def scenario():
        protocol.loop = asyncio.get_running_loop()
        protocol.connection_made(transport)
        protocol.data_received(b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        assert protocol.url == b"/v2", ADVICE
        assert protocol.scope["state"] == {}, ADVICE
        assert protocol.headers == protocol.scope["headers"] != [], ADVICE
        cycle, flow = protocol.cycle, protocol.flow
        assert (cycle.more_body, cycle.keep_alive) == (True, True), ADVICE
        assert (cycle.response_started, cycle.response_complete) == (False, False), ADVICE
        assert (cycle.disconnected, cycle.body) == (False, b""), ADVICE
        assert isinstance(cycle.default_headers, list), ADVICE
        assert isinstance(cycle.message_event, asyncio.Event), ADVICE
        assert callable(cycle.on_response), ADVICE
        assert len(protocol.pipeline) == 0, ADVICE
        assert flow.write_paused is False, ADVICE
        assert callable(flow.pause_reading), ADVICE
        assert inspect.iscoroutinefunction(flow.drain), ADVICE
        for task in protocol.tasks:
            task.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (uvicorn.Server, ["handle_exit"]),
        (Multiprocess, ["keep_subprocess_alive", "run", "terminate_all"]),
        (uvicorn.Config, ["load"]),
    ],
)
def test_the_members_that_server_py_uses(owner, names):
    for name in names:
        assert callable(getattr(owner, name, None)), f"{name}() is gone. {ADVICE}"
    server = uvicorn.Server(uvicorn.Config("none"))
    assert (server.should_exit, server.force_exit) == (False, False), ADVICE
    processes = Multiprocess(uvicorn.Config("none"), sockets=[])
    assert (processes.sockets, processes.processes) == ([], []), ADVICE
    assert isinstance(STARTUP_FAILURE, int), ADVICE


def test_the_version_is_within_the_cap():
    assert uvicorn.__version__.startswith("0.54."), ADVICE

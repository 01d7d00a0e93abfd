"""The functions of python-socketio and python-engineio that this package overrides or leans on, with their hashes.

A test compares them with what is installed. When one differs, read what changed upstream, see whether the override
still fits or is no longer needed, and only then write the new hash here: `python -m realtime.wire.upstream` prints
the list anew.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import textwrap

PINNED: dict[str, str] = {
    "engineio.async_server:AsyncServer._handle_connect": "a47d4a5c5e429da3",
    "engineio.async_server:AsyncServer.handle_request": "7a4971c7500e6422",
    "engineio.async_server:AsyncServer.create_queue": "543bcd6f4eecbaa3",
    "engineio.async_server:AsyncServer.disconnect": "d464eb1f953240c9",
    "engineio.async_server:AsyncServer._make_response": "765491bf76bcae76",
    "engineio.async_server:AsyncServer._trigger_event": "f4dbe0de0fecf870",
    "engineio.async_socket:AsyncSocket.poll": "e65ca9f757c5c6ec",
    "engineio.async_socket:AsyncSocket.receive": "88ce7b48e2f00753",
    "engineio.async_socket:AsyncSocket.send": "2e6c0146d180bd97",
    "engineio.async_socket:AsyncSocket.check_ping_timeout": "d36d430b8f12e8ea",
    "engineio.async_socket:AsyncSocket.schedule_ping": "004bb5cd7ba28d22",
    "engineio.async_socket:AsyncSocket.close": "18bdb592eb77a06d",
    "engineio.async_socket:AsyncSocket.handle_get_request": "f7daa9ad7adfb982",
    "engineio.async_socket:AsyncSocket.handle_post_request": "f922c1c161540508",
    "engineio.async_socket:AsyncSocket._upgrade_websocket": "35cbe5112b598f6a",
    "engineio.async_socket:AsyncSocket._websocket_handler": "2822186d44689f3a",
    "engineio.base_socket:BaseSocket.__init__": "6e785fa1cd081f49",
    "engineio.base_server:BaseServer._bad_request": "ada501b45b9265aa",
    "engineio.base_server:BaseServer._ok": "8705bfacdd26ef54",
    "engineio.base_server:BaseServer._get_socket": "7aaec00f00cf2605",
    "engineio.base_server:BaseServer._log_error_once": "54c8f89ef6f027cb",
    "engineio.async_drivers.asgi:WebSocket.__init__": "e0877af60e9d4556",
    "engineio.async_drivers.asgi:WebSocket.__call__": "3e435996fb799b7c",
    "engineio.async_drivers.asgi:WebSocket.send": "ee04dbdf0db1eabe",
    "engineio.async_drivers.asgi:WebSocket.close": "e8c222d4b6dd2887",
    "engineio.async_drivers.asgi:WebSocket.wait": "884f188ab7fce006",
    "engineio.async_drivers.asgi:translate_request": "bc15d8810c8d6cd1",
    "engineio.packet:Packet.encode": "502a935273efdf66",
    "engineio.packet:Packet.decode": "5ea36fab260659ac",
    "engineio.payload:Payload.decode": "a2481092c6a00e8e",
    "engineio.payload:Payload.encode": "bfb4af1d815e7fbb",
    "socketio.packet:Packet.encode": "c0c942925dd5e295",
    "socketio.packet:Packet.decode": "7bb4fad188333541",
    "socketio.packet:Packet.add_attachment": "b3de8e0b429281e0",
    "socketio.base_server:BaseServer.__init__": "46223a462e684cd7",
    "socketio.base_server:BaseServer._get_event_handler": "bb48e0c3164a1e4f",
    "socketio.base_server:BaseServer._get_namespace_handler": "500ff917a53cb36b",
    "socketio.async_server:AsyncServer._engineio_server_class": "726f2848023f38ac",
    "socketio.async_server:AsyncServer._handle_connect": "8d039174ea26138b",
    "socketio.async_server:AsyncServer._handle_disconnect": "6c4c9b76f79d4dda",
    "socketio.async_server:AsyncServer._handle_event": "f9d48888b2c4f4b1",
    "socketio.async_server:AsyncServer._handle_event_internal": "963582a5f821da35",
    "socketio.async_server:AsyncServer._handle_ack": "e46b3d6a23e9e057",
    "socketio.async_server:AsyncServer._handle_eio_connect": "3686c5190dfb3d99",
    "socketio.async_server:AsyncServer._handle_eio_message": "f772a451d918e87a",
    "socketio.async_server:AsyncServer._handle_eio_disconnect": "f7742d33d9739e32",
    "socketio.async_server:AsyncServer._send_packet": "1bc829cccb4c67d9",
    "socketio.async_server:AsyncServer._trigger_event": "c96ce8e57718ef20",
    "socketio.async_server:AsyncServer.call": "a7d6676abfd17ffd",
    "socketio.async_server:AsyncServer.disconnect": "76b7df013cdcc128",
    "socketio.async_server:AsyncServer.emit": "30988143647df222",
    "socketio.async_server:AsyncServer.get_session": "b41bf18072a8d8f3",
    "socketio.async_server:AsyncServer.save_session": "da146f2267efe26c",
    "socketio.async_server:AsyncServer.shutdown": "0be46513be15d3a2",
    "socketio.async_manager:AsyncManager.emit": "73f2199d8288b596",
    "socketio.async_manager:AsyncManager.enter_room": "7679b2fbeb901f1e",
    "socketio.async_manager:AsyncManager.leave_room": "390002d0c5001ba4",
    "socketio.async_manager:AsyncManager.close_room": "59c28e63cc2d3cf6",
    "socketio.async_manager:AsyncManager.can_disconnect": "9f48d9d5d2e77bda",
    "socketio.async_manager:AsyncManager.trigger_callback": "99ebceafd4dd72a5",
    "socketio.base_manager:BaseManager.__init__": "064c12d6e1af87e5",
    "socketio.base_manager:BaseManager.set_server": "14de544b6f8983b4",
    "socketio.base_manager:BaseManager.basic_close_room": "c7fb5d8f4e9013b0",
    "socketio.base_manager:BaseManager.basic_enter_room": "705877858d9fa712",
    "socketio.base_manager:BaseManager.basic_leave_room": "8c315192c6837321",
    "socketio.base_manager:BaseManager.eio_sid_from_sid": "15f7ed15a67829bb",
    "socketio.base_manager:BaseManager.get_namespaces": "32be3cd56ad9490e",
    "socketio.base_manager:BaseManager.get_participants": "ff486d06f687b2d6",
    "socketio.base_manager:BaseManager.get_rooms": "f98c8b83591bd578",
    "socketio.base_manager:BaseManager.is_connected": "261ae7f9ac03a698",
    "socketio.base_manager:BaseManager.is_pre_connected": "8c397b07df4c5ca3",
    "socketio.base_manager:BaseManager.is_sid_room": "a295d78c7be2949c",
    "socketio.base_manager:BaseManager.sid_from_eio_sid": "930d34915b53bcb0",
    "socketio.async_pubsub_manager:AsyncPubSubManager.__init__": "baeb77e44cafc19b",
    "socketio.async_pubsub_manager:AsyncPubSubManager.initialize": "11698e96457672e8",
    "socketio.async_pubsub_manager:AsyncPubSubManager.emit": "463fa36235781c98",
    "socketio.async_pubsub_manager:AsyncPubSubManager.can_disconnect": "a90eecd88cf21a0b",
    "socketio.async_pubsub_manager:AsyncPubSubManager.disconnect": "c4539d042f253710",
    "socketio.async_pubsub_manager:AsyncPubSubManager.enter_room": "63fc156fd5cb9a40",
    "socketio.async_pubsub_manager:AsyncPubSubManager.leave_room": "f2220e0eda5eae51",
    "socketio.async_pubsub_manager:AsyncPubSubManager.close_room": "0bed26bd8c37917d",
    "socketio.async_pubsub_manager:AsyncPubSubManager._publish": "61abb89abba9d856",
    "socketio.async_pubsub_manager:AsyncPubSubManager._handle_emit": "46370549f53198b4",
    "socketio.async_pubsub_manager:AsyncPubSubManager._handle_callback": "012ee23231918a84",
    "socketio.async_pubsub_manager:AsyncPubSubManager._return_callback": "8176be1a360b0f37",
    "socketio.async_pubsub_manager:AsyncPubSubManager._handle_disconnect": "bef3e29f820a5796",
    "socketio.async_pubsub_manager:AsyncPubSubManager._handle_enter_room": "97994332acad1d70",
    "socketio.async_pubsub_manager:AsyncPubSubManager._handle_leave_room": "4f640bc6c2a16408",
    "socketio.async_pubsub_manager:AsyncPubSubManager._handle_close_room": "20d9bdc1183204e2",
    "socketio.async_pubsub_manager:AsyncPubSubManager._thread": "c13cd40a1791f7d6",
}


def fingerprint(name: str) -> str:
    """The hash of a function named `module:Class.function`: of its code, not of its comments, docstring or layout."""
    module, _, path = name.partition(":")
    found: object = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    tree = ast.parse(textwrap.dedent(inspect.getsource(found)))  # type: ignore[arg-type]  # it is a function
    function = tree.body[0]
    if (
        isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(function) is not None
    ):
        function.body = function.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def changed() -> list[str]:
    """The pinned functions that are no longer what they were, or are gone."""
    differing = []
    for name, known in PINNED.items():
        try:
            same = fingerprint(name) == known
        except (ImportError, AttributeError):
            same = False
        if not same:
            differing.append(name)
    return differing


if __name__ == "__main__":
    for each in PINNED:
        print(f'    "{each}": "{fingerprint(each)}",')  # noqa: T201

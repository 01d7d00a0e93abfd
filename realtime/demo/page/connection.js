// The socket, and what is shown of it: its state, its transport, its instance.

import { io } from "/demo/socket.io.esm.min.js";
import { find, say } from "/demo/elements.js";

const PATH = "/ws/socket.io";
const CLOSE = "1"; // Engine.IO's packet
const TRY_AGAIN_MS = 1000;
const TOAST_MS = 5000;
const FOR_A_WHILE = new Set(["unavailable", "directory-unavailable", "overloaded", "internal"]);
const POLLING = new URLSearchParams(location.search).get("transport") === "polling";

export function connect(token, { onReady, onRefused }) {
  const socket = io({
    path: PATH,
    auth: { token, presence: "diff" },
    transports: POLLING ? ["polling"] : ["websocket", "polling"],
    tryAllTransports: true,
    reconnectionDelay: 300,
    reconnectionDelayMax: 2000,
    timeout: 5000,
  });
  let closing = null;
  let before = false;
  let opened = false;

  async function ready() {
    const engine = socket.io.engine;
    show("connected", "Connected", engine.transport.name);
    closing = null;
    onReady(socket);
    try {
      const { instance } = await socket.timeout(3000).emitWithAck("demo-instance");
      const tell = () => show("connected", "Connected", `${engine.transport.name} · ${instance}`);
      tell();
      engine.on("upgrade", tell);
      if (before) toast(`Connected again, to ${instance}`);
      before = true;
    } catch {
      // It is gone again, and what follows says so.
    }
  }

  // Some proxies take a websocket and then close it, which the client does not count as a reason to poll.
  socket.io.on("open", () => (opened = true));
  socket.io.on("reconnect_attempt", () => {
    if (!opened && !POLLING) socket.io.opts.transports = ["polling", "websocket"];
    opened = false;
  });
  socket.on("connect", ready);
  socket.on("closing", (why) => (closing = why));
  socket.on("disconnect", (reason) => {
    if (reason === "io client disconnect") return;
    if (socket.active) show("connecting", "Reconnecting", closing?.reason ?? "");
    else if (closing?.code === 4001 || closing?.code === 4002 || closing?.code === 4003) onRefused(closing.reason);
    else show("closed", "Closed", closing?.reason ?? reason);
  });
  socket.on("connect_error", (error) => {
    show("connecting", before ? "Reconnecting" : "Connecting", error.data?.code ?? "");
    if (socket.active) return; // it tries again by itself
    if (FOR_A_WHILE.has(error.data?.code)) setTimeout(() => socket.connect(), TRY_AGAIN_MS);
    else if (error.data?.code?.startsWith("token-")) onRefused(error.message);
    else show("closed", "Refused", error.message);
  });
  // A websocket ends with its tab. A tab that polls would be missed only after a ping, most of a minute later.
  addEventListener("pagehide", () => {
    const { id, transport } = socket.io.engine ?? {};
    if (!id || transport.name !== "polling") return;
    navigator.sendBeacon(`${PATH}/?${new URLSearchParams({ EIO: "4", transport: "polling", sid: id })}`, CLOSE);
  });
  return socket;
}

export const connected = (socket) => socket.connected || new Promise((go) => socket.once("connect", go));

export function showSwitch() {
  const link = find("switch");
  link.href = POLLING ? location.pathname : "?transport=polling";
  link.textContent = POLLING ? "Use websocket" : "Use polling only";
}

let toastEnd;
export function toast(text) {
  clearTimeout(toastEnd);
  find("toast").textContent = text;
  toastEnd = setTimeout(() => (find("toast").textContent = ""), TOAST_MS);
}

function show(state, words, way) {
  find("connection").dataset.state = state;
  say(find("connection-state"), words);
  say(find("connection-way"), way);
}

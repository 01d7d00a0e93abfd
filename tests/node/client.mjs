// One socket.io-client driven by JSON lines: commands on stdin, everything it sees on stdout.
//
// Commands: {"id", "do", ...}. Each is answered by {"type": "done", "id", "result"?, "error"?}:
//   connect {url, options}      opens; what comes of it is told by "connect" or "connect_error"
//   emit {event, args}          without acknowledgement
//   call {event, args, timeout} waits for the acknowledgement, which is the result; timeout in ms
//   reply {event, args}         from now on answers the server's calls of `event` with `args` ("echo": what came)
//   answer {call, args}         answers one call that was told with its number
//   auth {auth}                 what the next (re)connect sends
//   state {}                    {connected, sid, transport, engine}
//   disconnect {}               leaves as socket.disconnect() does
//   drop {}                     closes the connection below Socket.IO, as a lost line does
// Told: connect {sid, transport, recovered}, connect_error {message, data}, disconnect {reason, details},
//   upgrade {transport}, reconnect_attempt {attempt}, event {event, args, call?}
// Binary data is {"$binary": base64} in both directions.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

let socket = null;
let calls = 0;
const waiting = new Map();
const replies = new Map();

const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");

function pack(value) {
  if (value instanceof ArrayBuffer) return { $binary: Buffer.from(value).toString("base64") };
  if (ArrayBuffer.isView(value)) {
    return { $binary: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
  }
  if (Array.isArray(value)) return value.map(pack);
  if (value === undefined) return null;
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, pack(inner)]));
}

function unpack(value) {
  if (Array.isArray(value)) return value.map(unpack);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$binary === "string") return Buffer.from(value.$binary, "base64");
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, unpack(inner)]));
}

function seen(event, args) {
  const answer = typeof args.at(-1) === "function" ? args.pop() : null;
  const line = { type: "event", event, args: pack(args) };
  if (answer !== null) {
    const reply = replies.get(event);
    if (reply === "echo") answer(...args);
    else if (reply !== undefined) answer(...reply);
    else {
      line.call = ++calls;
      waiting.set(line.call, answer);
    }
  }
  tell(line);
}

function open({ url, options }) {
  if (socket !== null) throw new Error("connect was already called: one client, one socket");
  socket = io(url, { ...unpack(options), multiplex: false, autoConnect: false });
  socket.onAny((event, ...args) => seen(event, args));
  socket.on("connect", () => {
    tell({
      type: "connect",
      sid: socket.id,
      transport: socket.io.engine.transport.name,
      recovered: socket.recovered,
    });
  });
  socket.on("connect_error", (error) => {
    tell({ type: "connect_error", message: error.message, data: pack(error.data) });
  });
  socket.on("disconnect", (reason, details) => {
    tell({ type: "disconnect", reason, details: details?.description?.toString?.() ?? null });
  });
  socket.io.on("reconnect_attempt", (attempt) => tell({ type: "reconnect_attempt", attempt }));
  socket.io.on("open", () => {
    socket.io.engine.on("upgrade", (transport) => tell({ type: "upgrade", transport: transport.name }));
  });
  socket.connect();
}

const commands = {
  connect: open,
  emit: ({ event, args }) => void socket.emit(event, ...unpack(args)),
  call: async ({ event, args, timeout }) =>
    pack(await socket.timeout(timeout).emitWithAck(event, ...unpack(args))),
  reply: ({ event, args }) => void replies.set(event, args === "echo" ? args : unpack(args)),
  answer: ({ call, args }) => {
    const answer = waiting.get(call);
    if (answer === undefined) throw new Error(`no call ${call} waits for an answer`);
    waiting.delete(call);
    answer(...unpack(args));
  },
  auth: ({ auth }) => void (socket.auth = unpack(auth)),
  state: () => ({
    connected: socket?.connected ?? false,
    sid: socket?.id ?? null,
    transport: socket?.io.engine?.transport?.name ?? null,
    engine: socket?.io.engine?.id ?? null,
  }),
  disconnect: () => void socket.disconnect(),
  drop: () => void socket.io.engine.close(),
};

const input = createInterface({ input: process.stdin });
input.on("line", async (line) => {
  const command = JSON.parse(line);
  try {
    const result = await commands[command.do](command);
    tell({ type: "done", id: command.id, result: result ?? null });
  } catch (error) {
    tell({ type: "done", id: command.id, error: error.message });
  }
});
// The driver went away: so does this process, whatever the socket is doing.
input.on("close", () => process.exit(0));

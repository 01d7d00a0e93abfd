// The server of the wire benchmark in Node: tokens are checked, rooms entered, acks given; WIRE_DOOR makes it emit.
//
// node wire_server.mjs PORT [REDIS_URL]

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, redisUrl] = process.argv.slice(2);
const room = process.env.WIRE_ROOM;

function claims(token) {
  const [header, payload, signature] = token.split(".");
  const expected = createHmac("sha256", process.env.WEBUI_SECRET_KEY).update(`${header}.${payload}`).digest();
  if (!timingSafeEqual(expected, Buffer.from(signature, "base64url"))) throw new Error("a forged token");
  const found = JSON.parse(Buffer.from(payload, "base64url"));
  if (found.exp <= Date.now() / 1000) throw new Error("an expired token");
  return found;
}

const http = createHttpServer();
const io = new Server(http, { path: "/ws/socket.io/" });
if (redisUrl) {
  const publisher = createClient({ url: redisUrl });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}

io.use((socket, next) => {
  try {
    socket.data.user = claims(socket.handshake.auth.token).id;
    next();
  } catch (error) {
    next(error);
  }
});

io.on("connection", (socket) => {
  socket.join([`user:${socket.data.user}`, room]);
  socket.on("echo", (data, answer) => answer(data));
});

createServer((door) => {
  door.on("data", (data) => {
    for (const line of data.toString().split("\n").slice(0, -1)) {
      const [first, count, ...words] = line.split(" ");
      const text = words.join(" ");
      for (let n = Number(first); n < Number(first) + Number(count); n++) io.to(room).emit("message", { n, text });
    }
  });
}).listen(process.env.WIRE_DOOR);

http.listen(Number(port), "127.0.0.1");

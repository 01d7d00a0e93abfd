// Who is online, who types, and which models are in use.

import { find, keepList, written } from "/demo/elements.js";

const TYPING_MS = 4000;
const TELL_AGAIN_MS = 2000;

export function watchPeople(socket) {
  let online = new Set();
  const show = () => {
    keepList(find("online"), [...online].sort((one, other) => one.localeCompare(other)));
    find("online-count").textContent = online.size || "";
  };
  socket.on("user-list", ({ user_ids: ids }) => {
    online = new Set(ids);
    show();
  });
  socket.on("presence-diff", ({ joins, leaves }) => {
    for (const id of joins) online.add(id);
    for (const id of leaves) online.delete(id);
    show();
  });
  socket.on("usage", ({ models }) => {
    keepList(find("models"), [...models].sort());
    find("no-models").hidden = models.length > 0;
  });
}

export class Typing {
  constructor(me) {
    this.me = me;
    this.until = new Map(); // "channel user" to the timer that ends it
    this.told = 0;
    this.channel = null;
  }

  show(channel) {
    this.channel = channel;
    const names = [...this.until.keys()].filter((key) => key.startsWith(`${channel} `)).map((key) => key.slice(channel.length + 1));
    const verb = names.length === 1 ? "is" : "are";
    const some = names.length > 3 ? [`${names.length} people`] : names.flatMap((name, at) => [at ? ", " : "", written(name)]);
    find("typing").replaceChildren(...(names.length ? [...some, ` ${verb} typing`] : []));
  }

  heard(channel, user, typing) {
    if (user === this.me) return;
    const key = `${channel} ${user}`;
    clearTimeout(this.until.get(key));
    this.until.delete(key);
    if (typing) this.until.set(key, setTimeout(() => this.heard(channel, user, false), TYPING_MS));
    this.show(this.channel);
  }

  tell(socket, channel, typing) {
    const now = Date.now();
    if (typing ? now - this.told < TELL_AGAIN_MS : !this.told) return;
    this.told = typing ? now : 0;
    socket.volatile.emit("channel-events", { channel_id: channel, data: { type: "typing", data: { typing } } });
  }
}

// The page: who is signed in, which chat is open, and what happens with what comes.

import { Chat } from "/demo/chat.js";
import { confirmed, dismiss } from "/demo/confirm.js";
import { connect, connected, showSwitch } from "/demo/connection.js";
import { find, make, say } from "/demo/elements.js";
import { Typing, watchPeople } from "/demo/people.js";
import { addPost, identity, readPosts, signIn } from "/demo/server.js";

const ASSISTANT = "assistant";
const USING_MS = 1000;
const USING_FOR_MS = 10_000; // after the last that came of an answer; it may never end
const REREAD_MS = 20_000;
const OFFERS = ["How does a word get to every tab of mine?", "Share a thought with everybody"];

function open(who) {
  find("door").hidden = true;
  find("room").hidden = false;
  find("me").textContent = who.user.id;
  const chats = new Map();
  const typing = new Typing(who.user.id);
  let current;
  let asked = null; // the timer that says the model is in use, while this tab's question is answered
  let heard = 0; // when something of an answer came
  let delivered = Promise.resolve(); // all that was written until now

  for (const name of [...who.channels, ASSISTANT]) {
    chats.set(name, new Chat(name, { ...describe(name), reread: () => read(name) }));
  }

  const socket = connect(who.token, {
    onReady: () => chats.forEach((_chat, name) => read(name)),
    onRefused: (reason) => leave(`${reason}: sign in again`),
  });
  watchPeople(socket);
  socket.on("channel-events", ({ channel_id: channel, data, user }) => {
    if (data.type === "typing") typing.heard(channel, user.id, data.data?.typing !== false);
    if (data.type !== "post" || !chats.has(channel)) return;
    if (data.data.kind === "person") typing.heard(channel, data.data.author, false);
    chats.get(channel).put(data.data);
    showChats();
  });
  socket.on("chat-events", async ({ message_id: id, data: { type, data } }, answer) => {
    const chat = chats.get(ASSISTANT);
    heard = Date.now();
    if (type === "post") chat.put(data);
    if (type === "message") chat.stream(id, data);
    if (type === "status") chat.status(id, data);
    if (type === "status" && data.done) {
      stopUsing();
      dismiss(id);
    }
    showChats();
    if (type !== "confirmation") return;
    chat.asks(id, true);
    answer(await confirmed(id, data));
    chat.asks(id, false);
  });

  const reading = new Map();
  function read(name) {
    // One at a time: what a second would bring, the events bring too.
    if (!reading.has(name)) reading.set(name, readOnce(name).finally(() => reading.delete(name)));
    return reading.get(name);
  }

  async function readOnce(name) {
    try {
      const { posts } = await readPosts(who.token, name);
      for (const post of posts) chats.get(name).put(post, { old: true });
    } catch (error) {
      if (error.status === 401) leave(error.message);
      else say(find("error"), `Could not read ${name}: ${error.message}`);
    }
  }

  // What happens reaches this page at most once. What it missed while its instance was cut off is in the database.
  setInterval(() => socket.connected && !document.hidden && read(current.name), REREAD_MS);

  function choose(name) {
    if (current) {
      current.hide();
      current.draft = find("text").value;
      typing.tell(socket, current.name, false);
    }
    current = chats.get(name);
    find("text").value = current.draft ?? "";
    find("chat-title").textContent = current.title;
    find("chat-about").textContent = current.about;
    find("text").placeholder = name === ASSISTANT ? "Ask anything" : `Write to ${name}`;
    find("model").hidden = name !== ASSISTANT;
    say(find("error"), "");
    current.show();
    typing.show(name);
    showChats();
    if (socket.connected) read(name);
  }

  function showChats() {
    if (current) current.unread = 0;
    const list = find("chats");
    if (!list.children.length) {
      for (const [name, chat] of chats) {
        const button = make("button", { onclick: () => { choose(name); find("text").focus(); } },
          make("span", { className: "name", textContent: chat.title }), make("span"));
        button.dataset.chat = name;
        list.append(make("li", {}, button));
      }
    }
    for (const button of list.querySelectorAll("button")) {
      const chat = chats.get(button.dataset.chat);
      button.ariaCurrent = String(chat === current);
      button.lastChild.className = chat.unread ? "unread" : "";
      button.lastChild.textContent = chat.unread || "";
      button.lastChild.ariaLabel = chat.unread ? `${chat.unread} unread` : "";
    }
  }

  function send(text) {
    const post = { id: newId(), kind: "person", author: who.user.id, text, at: Date.now() / 1000, done: true };
    if (current.name !== ASSISTANT) typing.tell(socket, current.name, false);
    enqueue(current, post, find("model").value);
  }

  // Each waits for the one before it, so that they are kept in the order in which they were written.
  function enqueue(chat, post, model) {
    chat.put(post, { waiting: true });
    delivered = delivered.then(() => deliver(chat, post, model));
  }

  async function deliver(chat, post, model) {
    try {
      const kept = await keep(chat, post);
      if (chat.name === ASSISTANT) startUsing(model);
      chat.put(kept);
    } catch (error) {
      if (error.status === 401) return leave(error.message);
      chat.fail(post.id, error.message, () => enqueue(chat, post, model));
      if (!chat.shown) chat.unread++;
    }
    showChats();
  }

  async function keep(chat, { id, text }) {
    for (;;) {
      await connected(socket);
      try {
        return (await addPost(who.token, { chat: chat.name, id, text, session_id: socket.id ?? "" })).post;
      } catch (error) {
        // While it is not connected it waits until it is, however long that takes.
        if (error.status < 500 || socket.connected) throw error;
      }
    }
  }

  function startUsing(model) {
    stopUsing();
    heard = Date.now();
    const use = () => (Date.now() - heard < USING_FOR_MS ? socket.volatile.emit("usage", { model }) : stopUsing());
    asked = setInterval(use, USING_MS);
    use();
  }

  function stopUsing() {
    clearInterval(asked);
    asked = null;
  }

  function submit(event) {
    event?.preventDefault();
    const text = find("text").value.trim();
    if (!text) return;
    find("text").value = "";
    send(text);
  }

  function describe(name) {
    if (name !== ASSISTANT) {
      const words = `Nobody has said anything in ${name} yet. Be the first.`;
      return { title: `# ${name}`, about: "Everybody here reads this; it is kept in the database", empty: () => [words] };
    }
    const empty = () => [
      "Ask anything: the answer is made up, but it is streamed for real.",
      make("span", { className: "offers" },
        ...OFFERS.map((text) => make("button", { type: "button", textContent: text, onclick: () => send(text) }))),
    ];
    return { title: "Assistant", about: "Streams made-up answers into all of your tabs", empty };
  }

  find("composer").onsubmit = submit;
  find("text").onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  find("text").oninput = () => current.name !== ASSISTANT && typing.tell(socket, current.name, find("text").value !== "");
  find("sign-out").onclick = () => leave();
  showSwitch();
  choose(who.channels[0]);
  find("text").focus();

  function leave(reason = "") {
    identity.clear();
    if (reason) sessionStorage.setItem("realtime-demo-left", reason);
    socket.disconnect();
    location.reload();
  }
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function door() {
  find("door").hidden = false;
  find("sign-in-error").textContent = sessionStorage.getItem("realtime-demo-left") ?? "";
  sessionStorage.removeItem("realtime-demo-left");
  find("name").focus();
  find("sign-in").onsubmit = async (event) => {
    event.preventDefault();
    try {
      const who = await signIn(find("name").value.trim());
      identity.set(who);
      open(who);
    } catch (error) {
      find("sign-in-error").textContent = `Could not sign in: ${error.message}`;
    }
  };
}

const who = identity.get();
if (who) open(who);
else door();

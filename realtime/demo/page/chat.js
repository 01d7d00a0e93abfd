// One chat: its posts, each once, however often and by whichever way it comes.

import { find, make, say } from "/demo/elements.js";
import { follow } from "/demo/follow.js";

const SILENT_MS = 10_000;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const toEnd = follow(find("scroll"), find("messages"));

export class Chat {
  constructor(name, { title, about, empty, reread }) {
    Object.assign(this, { name, title, about, empty, reread });
    this.posts = new Map(); // id to what is known of it and its element
    this.unread = 0;
    this.shown = false;
  }

  show() {
    this.shown = true;
    this.unread = 0;
    find("messages").replaceChildren(...this.inOrder().map((post) => post.element));
    toEnd();
    this.showEmpty();
  }

  hide() {
    this.shown = false;
  }

  // From the server's memory, or as it happens, or this tab's own: `waiting`, until the server has kept it.
  put(post, { waiting = false, old = false } = {}) {
    let known = this.posts.get(post.id);
    if (known === undefined) {
      known = { ...post, element: element(post) };
      this.posts.set(post.id, known);
      if (!this.shown && !old && !waiting) this.unread++;
    }
    if (post.text.length >= known.text.length) known.text = post.text;
    Object.assign(known, { at: post.at, done: known.done || post.done, waiting, failure: null });
    this.paint(known);
    this.place(known);
    if (waiting && this.shown) toEnd();
  }

  // The server did not keep it. It stays, with a button that calls `again`.
  fail(id, failure, again) {
    const post = this.posts.get(id);
    if (!post.waiting) return; // it did, only its answer was lost
    Object.assign(post, { failure, again });
    this.paint(post);
  }

  // A word of an answer that streams. What was missed is read again from where it is kept.
  stream(id, { content, at }) {
    const post = this.posts.get(id);
    if (post === undefined || at > post.text.length) return this.reread();
    if (at < post.text.length) return;
    post.text += content;
    this.paint(post);
  }

  // An answer stands still, as its reader is asked something.
  asks(id, asking) {
    const post = this.posts.get(id);
    if (post === undefined) return;
    post.asking = asking;
    this.paint(post);
  }

  status(id, { description, done }) {
    const post = this.posts.get(id);
    if (post === undefined) return;
    post.done = done;
    post.state = description;
    this.paint(post);
  }

  paint(post) {
    clearTimeout(post.silence);
    const when = new Date(post.at * 1000);
    const time = post.element.querySelector("time");
    time.dateTime = when.toISOString();
    say(time, clock.format(when));
    say(post.element.querySelector(".says"), post.text);
    post.element.classList.toggle("waiting", post.waiting);
    post.element.classList.toggle("streaming", !post.done);
    post.element.ariaBusy = String(!post.done); // a screen reader reads the whole, not every word
    say(post.element.querySelector(".state"), stateOf(post));
    post.element.querySelector(".failure")?.remove();
    if (post.failure) post.element.append(failure(post));
    if (post.done || post.asking) return;
    post.silence = setTimeout(() => {
      post.element.classList.remove("streaming");
      say(post.element.querySelector(".state"), "no more came");
    }, SILENT_MS);
  }

  // In the order in which the server kept them, also what is read later; what waits for that comes last.
  inOrder() {
    const when = (post) => (post.waiting ? Infinity : post.at);
    return [...this.posts.values()].sort((one, other) => when(one) - when(other) || 0);
  }

  place(post) {
    if (!this.shown) return;
    const all = this.inOrder();
    const next = all.slice(all.indexOf(post) + 1).find((each) => each.element.isConnected)?.element ?? null;
    if (post.element.isConnected && post.element.nextElementSibling === next) return;
    find("messages").insertBefore(post.element, next);
    this.showEmpty();
  }

  showEmpty() {
    if (!this.shown) return;
    find("empty").hidden = this.posts.size > 0;
    if (this.posts.size === 0) find("empty").replaceChildren(...this.empty());
  }
}

function stateOf({ waiting, failure, done, asking, text, state }) {
  if (waiting) return failure ? "not sent" : "sending";
  if (done) return "";
  if (asking) return "waiting for you";
  return text ? "answering" : state || "Thinking";
}

function failure(post) {
  const again = make("button", { type: "button", className: "quiet", textContent: "Send again", onclick: () => post.again() });
  return make("p", { className: "failure error", role: "alert" }, `Not sent: ${post.failure} `, again);
}

function element({ id, kind, author }) {
  const item = make(
    "li",
    { className: `post ${kind === "assistant" ? "assistant" : "person"}` },
    make("span", { className: "badge", ariaHidden: "true", textContent: [...author][0].toUpperCase() }),
    make(
      "div",
      { className: "by" },
      make("strong", { textContent: author, dir: "auto" }),
      make("time"),
      make("span", { className: "state" }),
    ),
    make("div", { className: "says", dir: "auto" }),
  );
  item.dataset.id = id;
  return item;
}

// One chat: its posts, each once, however often and by whichever way it comes.

import { find, make } from "/demo/elements.js";

const SILENT_MS = 10_000;
const NEAR_PX = 80;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

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
    find("messages").replaceChildren(...[...this.posts.values()].map((post) => post.element));
    this.toEnd();
    this.showEmpty();
  }

  hide() {
    this.shown = false;
  }

  // From the server's memory, or as it happens. `waiting`: not yet known to be kept.
  put(post, { waiting = false, old = false } = {}) {
    let known = this.posts.get(post.id);
    const fresh = known === undefined;
    if (fresh) {
      known = { ...post, element: element(post) };
      this.posts.set(post.id, known);
      if (!this.shown && !old) this.unread++;
    }
    if (post.text.length >= known.text.length) known.text = post.text;
    known.done = known.done || post.done;
    this.paint(known, waiting);
    if (fresh && this.shown) this.append(known, post.mine);
    return fresh;
  }

  // A word of an answer that streams. What was missed is read again from where it is kept.
  stream(id, { content, at }) {
    const post = this.posts.get(id);
    if (post === undefined || at > post.text.length) return this.reread();
    if (at < post.text.length) return;
    const atEnd = this.atEnd();
    post.text += content;
    this.paint(post);
    if (atEnd) this.toEnd();
  }

  status(id, { description, done }) {
    const post = this.posts.get(id);
    if (post === undefined) return;
    post.done = done;
    post.state = description;
    this.paint(post);
  }

  drop(id) {
    this.posts.get(id)?.element.remove();
    this.posts.delete(id);
    this.showEmpty();
  }

  paint(post, waiting = false) {
    clearTimeout(post.silence);
    const says = post.element.querySelector(".says");
    if (says.textContent !== post.text) says.textContent = post.text;
    post.element.classList.toggle("waiting", waiting);
    post.element.classList.toggle("streaming", !post.done);
    post.element.ariaBusy = String(!post.done); // a screen reader reads the whole, not every word
    const state = waiting ? "sending" : post.done ? "" : post.text ? "answering" : post.state || "Thinking";
    post.element.querySelector(".state").textContent = state;
    if (!post.done) {
      post.silence = setTimeout(() => {
        post.element.classList.remove("streaming");
        post.element.querySelector(".state").textContent = "no more came";
      }, SILENT_MS);
    }
  }

  append(post, always) {
    const atEnd = this.atEnd();
    find("messages").append(post.element);
    this.showEmpty();
    if (atEnd || always) this.toEnd();
  }

  showEmpty() {
    if (!this.shown) return;
    find("empty").hidden = this.posts.size > 0;
    if (this.posts.size === 0) find("empty").replaceChildren(...this.empty());
  }

  atEnd() {
    const scroll = find("scroll");
    return this.shown && scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_PX;
  }

  toEnd() {
    if (this.shown) find("scroll").scrollTop = find("scroll").scrollHeight;
  }
}

function element({ id, kind, author, at }) {
  const when = new Date(at * 1000);
  const item = make(
    "li",
    { className: `post ${kind === "assistant" ? "assistant" : "person"}` },
    make("span", { className: "badge", ariaHidden: "true", textContent: [...author][0].toUpperCase() }),
    make(
      "div",
      { className: "by" },
      make("strong", { textContent: author }),
      make("time", { dateTime: when.toISOString(), textContent: clock.format(when) }),
      make("span", { className: "state" }),
    ),
    make("div", { className: "says" }),
  );
  item.dataset.id = id;
  return item;
}

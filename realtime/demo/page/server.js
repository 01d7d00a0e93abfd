// What the page asks of the server by HTTP, again where it could not be reached: every request may be repeated.

const KEY = "realtime-demo";
const PAUSE_MS = 400;
const TRIES = 12;

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
  }
}

export const identity = {
  get() {
    try {
      return JSON.parse(sessionStorage.getItem(KEY));
    } catch {
      return null;
    }
  },
  set: (who) => sessionStorage.setItem(KEY, JSON.stringify(who)),
  clear: () => sessionStorage.removeItem(KEY),
};

async function ask(path, options = {}) {
  for (let left = TRIES; ; left--) {
    let failure;
    try {
      const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(5000) });
      if (answer.ok) return await answer.json();
      const { error } = await answer.json().catch(() => ({}));
      failure = new Refused(answer.status, error);
      if (answer.status < 500) throw failure;
    } catch (error) {
      if (error instanceof Refused && error.status < 500) throw error;
      failure = error;
    }
    if (left <= 1) throw failure;
    await new Promise((again) => setTimeout(again, PAUSE_MS));
  }
}

const posting = (body, token) => ({
  method: "POST",
  body: JSON.stringify(body),
  headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
});

export const signIn = (name) => ask("/demo/sign-in", posting({ name }));
export const addPost = (token, post) => ask("/demo/chats/posts", posting(post, token));
export const readPosts = (token, chat) =>
  ask(`/demo/chats/posts?chat=${encodeURIComponent(chat)}`, { headers: { Authorization: `Bearer ${token}` } });

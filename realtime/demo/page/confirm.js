// The question of an event call: the dialog's answer is the call's answer.

import { find } from "/demo/elements.js";

let shown = null; // the question that is open, and who waits for its answer

// `id`: of what it is about. It is asked again where the connection was lost meanwhile; the dialog stays as it is.
export function confirmed(id, { title, message }) {
  if (shown?.id === id) return shown.answer;
  shown?.settle(false);
  let settle;
  const answer = new Promise((done) => (settle = done));
  shown = { id, answer, settle };
  find("confirm-title").textContent = title;
  find("confirm-text").textContent = message;
  if (!find("confirm").open) find("confirm").showModal();
  return answer;
}

// Nobody waits for the answer any more.
export function dismiss(id) {
  if (shown?.id === id) end(false);
}

function end(yes) {
  const { settle } = shown;
  shown = null;
  find("confirm").close();
  settle(yes);
}

find("confirm-no").onclick = () => end(false);
find("confirm-yes").onclick = () => end(true);
find("confirm").oncancel = (event) => {
  event.preventDefault();
  end(false);
};

// The question of an event call: the dialog's answer is the call's answer.

import { find } from "/demo/elements.js";

export function confirmed({ title, message }) {
  const dialog = find("confirm");
  if (dialog.open) return Promise.resolve(false);
  find("confirm-title").textContent = title;
  find("confirm-text").textContent = message;
  dialog.returnValue = "";
  find("confirm-no").onclick = () => dialog.close("no");
  find("confirm-yes").onclick = () => dialog.close("yes");
  return new Promise((answer) => {
    dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

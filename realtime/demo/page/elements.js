// Elements of the page. What people wrote goes through textContent only: nothing here makes HTML of a string.

export const find = (id) => document.getElementById(id);

export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// As text, and only if it is another: a screen reader tells of every change.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A name among other words. It may be written from right to left.
export const written = (name) => make("bdi", { textContent: name });

export function keepList(list, names) {
  // Only what changed is touched, so that a screen reader tells no more than that.
  const wanted = new Set(names);
  const there = new Set();
  for (const item of [...list.children]) {
    if (wanted.has(item.title)) there.add(item.title);
    else item.remove();
  }
  for (const [place, name] of names.entries()) {
    if (!there.has(name)) list.insertBefore(make("li", { title: name }, written(name)), list.children[place] ?? null);
  }
}

// Keeps the end of the messages in sight of whoever looks at it, also as they grow and as the window changes its size.

const NEAR_PX = 80;

export function follow(scroll, content) {
  let following = true;
  let top = 0;
  const toEnd = () => {
    following = true;
    scroll.scrollTop = scroll.scrollHeight;
  };
  scroll.addEventListener("scroll", () => {
    const left = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
    if (left < NEAR_PX) following = true;
    else if (scroll.scrollTop < top) following = false; // not where more came before this event did
    top = scroll.scrollTop;
  });
  const watch = new ResizeObserver(() => following && toEnd());
  watch.observe(scroll);
  watch.observe(content);
  return toEnd;
}

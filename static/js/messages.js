/* How the page tells something: for a moment in the bar, or as a notice for as long as it is so. */

import { announce } from "./announcer.js";
import { $, page, say } from "./page.js";

const TOAST_MS = 6_000;

const line = $("toast");
let timer = 0;

/* Shown and said. */
export function tell(text) {
  announce(text);
  toast(text);
}

/* A line of the bar, which grows: nothing lies under it, and the end of the page stays in sight above it. */
export function toast(text) {
  const root = document.scrollingElement;
  const isAtTheEnd = root.scrollTop + root.clientHeight >= root.scrollHeight - 1;
  line.textContent = text;
  line.hidden = false;
  ($("stage").querySelector(".bar") ?? $("stage")).prepend(line);
  if (isAtTheEnd) root.scrollTo({ top: root.scrollHeight, behavior: "instant" });
  clearTimeout(timer);
  timer = setTimeout(hideToast, TOAST_MS);
}

export function hideToast() {
  line.hidden = true;
}

export function notice(text, way = null) {
  const element = $("notice");
  if (element.firstChild?.textContent === text) return; // said once, not at every attempt
  element.hidden = !text;
  element.replaceChildren(text);
  if (way) element.append(" ", way);
}

export function noticeSignedOut(outbox) {
  return noticeKept("signedOut", outbox, page.urls.signIn, "signIn");
}

/* The page that is loaded again tells what is no longer allowed, or has a new token. */
export function noticeForbidden(outbox) {
  return noticeKept("forbidden", outbox, location.pathname + location.search, "loadAgain");
}

/* `n` answers that the server fails at, or leaves without an answer. */
export function noticeAside(outbox, n) {
  const button = control("button", "tryNow", { type: "button", className: "small" });
  button.addEventListener("click", async () => {
    await outbox.retry();
    if (button.isConnected) tell(say("stillAside"));
  });
  notice(say("kept", { trouble: say("aside"), n }), button);
}

async function noticeKept(trouble, outbox, href, words) {
  const n = (await outbox.waiting()).length;
  notice(say("kept", { trouble: say(trouble), n }), control("a", words, { href, className: "button small" }));
}

function control(tag, words, properties) {
  return Object.assign(document.createElement(tag), { textContent: say(words), ...properties });
}

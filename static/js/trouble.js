/* Notices of what the server will not have now, each with a way out of it. Fetched with the first of them. */

import { notice, tell } from "./messages.js";
import { page, say } from "./page.js";

export function noticeSignedOut(outbox) {
  return noticeKept("signedOut", outbox, page.urls.signIn + encodeURIComponent(here()), "signIn");
}

/* The page that is loaded again tells what is no longer allowed, or has a new token. */
export function noticeForbidden(outbox) {
  return noticeKept("forbidden", outbox, here(), "loadAgain");
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

/* With the pool that was chosen. */
function here() {
  return location.pathname + location.search;
}

async function noticeKept(trouble, outbox, href, words) {
  const n = (await outbox.waiting()).length;
  notice(say("kept", { trouble: say(trouble), n }), control("a", words, { href, className: "button small" }));
}

function control(tag, words, properties) {
  return Object.assign(document.createElement(tag), { textContent: say(words), ...properties });
}

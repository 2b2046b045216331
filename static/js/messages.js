/* How the page tells something: to a screen reader, for a moment on the toast, or as a notice for as long as it is so. */

import { $, page, say } from "./page.js";

const TOAST_MS = 6_000;

let toastTimer = 0;

export function announce(text) {
  $("announcer").textContent = text;
}

export function toast(text) {
  const element = $("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hideToast, TOAST_MS);
}

export function hideToast() {
  $("toast").hidden = true;
}

/* The toast stands on the bar, also when that grows or goes. */
const barSize = new ResizeObserver(([{ target }]) => {
  $("toast").style.setProperty("--bar-height", `${target.offsetHeight}px`);
});

export function toastStandsOn(bar) {
  barSize.disconnect();
  barSize.observe(bar);
}

export function notice(text, link = null) {
  const element = $("notice");
  if (element.firstChild?.textContent === text) return; // said once, not at every attempt
  element.hidden = !text;
  element.replaceChildren(text);
  if (link) element.append(" ", link);
}

export async function noticeSignedOut(outbox) {
  const link = document.createElement("a");
  link.href = page.urls.signIn;
  link.className = "button small";
  link.textContent = say("signIn");
  notice(say("signedOut", { n: (await outbox.waiting()).length }), link);
}

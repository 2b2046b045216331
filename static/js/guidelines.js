/* The guidelines beside the comparison. Fetched when they are opened. */

import { AS_FRAGMENT, fragment } from "./fragments.js";
import { $, say } from "./page.js";
import { ask } from "./server.js";

let opener = null; // what had the focus before the guidelines

/* Closed, they give the focus back to where it was; to the comparison where that has gone. Who works on beside them
 * keeps it. */
export function toggle() {
  const [link, panel] = [$("guidelines-link"), $("guidelines-panel")];
  const hadFocus = panel.contains(document.activeElement);
  panel.hidden = !panel.hidden || link.hidden;
  if (!panel.hidden) {
    opener = document.activeElement;
    panel.focus();
    fillPanel(panel, link.href);
  } else if (hadFocus) {
    const isThere = opener.isConnected && opener !== document.body;
    (isThere ? opener : $("stage").querySelector("h1"))?.focus({ preventScroll: true });
  }
}

export async function fillPanel(panel, url) {
  if (panel.dataset.url === url) return;
  panel.dataset.url = url;
  const text = panel.querySelector(".text");
  text.replaceChildren(); // those of another pool, or another version
  const response = await ask(url, AS_FRAGMENT).catch(() => null);
  const content = response?.ok ? fragment(await response.text()) : say("noGuidelines");
  if (panel.dataset.url !== url) return; // another comparison has come meanwhile
  if (!response?.ok) panel.dataset.url = ""; // asked for again when the panel is opened again
  text.replaceChildren(content);
}

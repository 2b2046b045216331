/* Requests to the server. Each says whose page this is: where somebody else has signed in beside it, it is refused. */

import { page } from "./page.js";

export function ask(url, { headers = {}, ...options } = {}) {
  const own = { "X-CSRFToken": csrfToken(), "X-Whetstone-Person": page.user };
  return fetch(url, { redirect: "manual", headers: { ...own, ...headers }, ...options });
}

function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

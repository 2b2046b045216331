/* A correction that was begun before the page was loaded anew. Fetched when there is one. */

import { Comparison } from "./comparison.js";
import { AS_FRAGMENT, fragment } from "./fragments.js";
import { tell } from "./messages.js";
import { page, say } from "./page.js";

/* The answer that is corrected; null where another tab is at it. One that has yet to be sent itself waits for the next
 * time. */
export async function begunCorrection({ drafts, outbox, leases }) {
  const id = drafts.begunCorrection;
  const isUnsent = (await outbox.all()).some((entry) => entry.assignment === id);
  if (isUnsent || !(await leases.claim(id))) return null;
  const options = { ...AS_FRAGMENT, signal: AbortSignal.timeout(10_000) };
  const response = await fetch(page.urls.correction.replace("/0/", `/${id}/`), options).catch(() => null);
  if (response?.ok) return new Comparison(fragment(await response.text()).firstElementChild);
  leases.letGo(id);
  if (response?.status !== 404) return null;
  drafts.drop({ id });
  tell(say("frozen"));
  return null;
}

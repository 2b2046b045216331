/* What was begun before the page was loaded anew, and is not on it. Fetched when there is any. */

import { Comparison } from "./comparison.js";
import { AS_FRAGMENT, fragment } from "./fragments.js";
import { tell } from "./messages.js";
import { page, say } from "./page.js";
import { ask } from "./server.js";

/* The answer that is corrected; null where another tab is at it. One that has yet to be sent itself waits for the next
 * time. */
export async function begunCorrection({ drafts, outbox, leases }) {
  const id = drafts.begunCorrection;
  const isUnsent = (await outbox.all()).some((entry) => entry.assignment === id);
  if (isUnsent || !(await leases.claim(id))) return null;
  const options = { ...AS_FRAGMENT, signal: AbortSignal.timeout(10_000) };
  const response = await ask(page.urls.correction.replace("/0/", `/${id}/`), options).catch(() => null);
  if (response?.ok) return new Comparison(fragment(await response.text()).firstElementChild);
  leases.letGo(id);
  if (response?.status !== 404) return null;
  drafts.drop({ id });
  tell(say("frozen"));
  return null;
}

/* Answers to comparisons that somebody else has now: what was written is kept until it is read. All others come back
 * with their comparisons, and are this person's again as soon as the server is asked. */
export async function keepLostWords({ drafts, outbox, leases, renewal }) {
  const held = await leases.held();
  const begun = drafts.begunAnswers.filter(({ id }) => !held.has(id));
  const lost = begun.length ? await renewal.lost(begun.map(({ id }) => id)) : [];
  for (const { id, fields } of begun.filter((one) => lost?.includes(one.id))) {
    await outbox.keepLost(id, Object.fromEntries(fields));
    drafts.drop({ id });
  }
}

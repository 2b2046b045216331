/* A rest is proposed when work has added up, over reloads and in all tabs (localStorage), without a pause. */

import { attempt, read } from "./drafts.js";
import { tell } from "./messages.js";
import { page, say } from "./page.js";

const KEY = "whetstone-worked";
const PAUSE_MS = 300_000;

let last = null; // where none can be kept

/* Somebody worked for `ms` more. */
export function noteWork(ms) {
  const { user, breakAfterMinutes: n } = page;
  last = read(KEY) ?? last;
  const goesOn = last?.user === user && Date.now() - last.at < PAUSE_MS;
  const worked = ms + (goesOn ? last.ms : 0);
  const isDue = worked >= n * 60_000;
  last = { user, ms: isDue ? 0 : worked, at: Date.now() };
  attempt(() => localStorage.setItem(KEY, JSON.stringify(last)));
  if (isDue) tell(say("break", { n }));
}

/* The dialogs in which the server replies to an answer: what training teaches, what was refused.
 *
 * Fetched when there is one. */

import { readOut } from "./announcer.js";
import { AS_FRAGMENT, fragment } from "./fragments.js";
import { $, say } from "./page.js";
import { ask } from "./server.js";

const PAUSES_MS = [0, 1_000, 4_000]; // before each attempt
const HEARD_AFTER_MS = 200; // a live region that has just appeared is not listened to yet

/* What a training answer should have been; resolves once it was read, to false where it cannot be had. */
export async function showFeedback(comparison) {
  const response = await askAgain(comparison.form.dataset.feedback);
  if (!response) return false;
  $("stage").after(fragment(await response.text()));
  const dialog = $("feedback-dialog");
  dialog.showModal();
  const parts = [...dialog.querySelectorAll(".content > :not(h2)")]; // each in its language; the heading has the focus
  setTimeout(() => parts.forEach((part) => readOut(part, say("goesOn"))), HEARD_AFTER_MS);
  await new Promise((resolve) => dialog.addEventListener("close", resolve));
  dialog.remove();
  return true;
}

async function askAgain(url) {
  for (const pause of PAUSES_MS) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    const response = await ask(url, { ...AS_FRAGMENT, signal: AbortSignal.timeout(10_000) }).catch(() => null);
    if (response?.ok) return response;
  }
  return null;
}

const read = new Set(); // the outbox may still be at dropping them

/* One after the other, the answers that the server refused, with what was written in them. The dialog closes with the
 * click, not once the disk has it: the next key is for the comparison again. */
export async function showProblems(outbox) {
  const dialog = $("problem-dialog");
  const problem = (await outbox.problems()).find(({ id }) => !read.has(id));
  if (!problem) return dialog.close();
  const { rationale, better_answer: better, reason } = problem.body;
  dialog.querySelector(".problem-reason").textContent = problem.problem.detail;
  dialog.querySelector(".problem-text").value = [rationale, better, problem.order, reason].filter(Boolean).join("\n\n");
  dialog.querySelector('[data-act="dismiss-problem"]').onclick = async () => {
    read.add(problem.id);
    dialog.close();
    await outbox.dismiss(problem);
    showProblems(outbox);
  };
  if (!dialog.open) dialog.showModal();
}

/* Stands in for Web Locks, which a page over plain HTTP does not have. Within a tab a lock is held by one at a time;
 * other tabs are asked what they hold. Two that ask in the same moment may both have it: the server stores an answer
 * once all the same.
 */

const ANSWER_MS = 100;

const channel = new BroadcastChannel("whetstone-locks");
const held = new Set();
const turns = new Map(); // by name, when the last that waits for it is done

channel.addEventListener("message", ({ data }) => data === "who" && channel.postMessage([...held]));

async function heldElsewhere() {
  const names = new Set();
  const hear = ({ data }) => Array.isArray(data) && data.forEach((name) => names.add(name));
  channel.addEventListener("message", hear);
  channel.postMessage("who");
  await new Promise((done) => setTimeout(done, ANSWER_MS));
  channel.removeEventListener("message", hear);
  return names;
}

async function hold(name, action) {
  held.add(name);
  try {
    return await action({ name });
  } finally {
    held.delete(name);
  }
}

async function holdIfFree(name, action) {
  const others = await heldElsewhere();
  return held.has(name) || others.has(name) ? action(null) : hold(name, action);
}

function holdInTurn(name, action) {
  const act = () => hold(name, action);
  const turn = (turns.get(name) ?? Promise.resolve()).then(act, act);
  turns.set(name, turn);
  return turn;
}

export const locks = {
  request: (name, options, action) => (action ? holdIfFree(name, action) : holdInTurn(name, options)),
  query: async () => ({ held: [...held, ...(await heldElsewhere())].map((name) => ({ name })) }),
};

/* What the server gave this page: addresses, keys, and the sentences it says. */

export const page = JSON.parse(document.getElementById("page-data").textContent);

/* One tab at a time, which over plain HTTP no browser offers. */
export const locks = navigator.locks ?? (await import("./tabs.js")).locks;

export const $ = (id) => document.getElementById(id);

/* `n` chooses between many and none or one, where the page has a sentence for those. */
export function say(name, values = {}) {
  const sentence = page.strings[name + (["None", "One"][values.n] ?? "")] ?? page.strings[name];
  return sentence.replace(/\{(\w+)\}/g, (_all, key) => values[key]);
}

/* "B, C and D" in the page's language; between Latin letters and Chinese stands a space: "B、C 和 D". */
export function listed(words) {
  const list = new Intl.ListFormat(document.documentElement.lang, { type: "conjunction" }).format(words);
  return list.replace(/(?<=\w)(?=\p{Script=Han})|(?<=\p{Script=Han})(?=\w)/gu, " ");
}

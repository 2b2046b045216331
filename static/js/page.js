/* What the server gave this page: addresses, keys, and the sentences it says. */

export const page = JSON.parse(document.getElementById("page-data").textContent);

export const $ = (id) => document.getElementById(id);

/* `n` chooses between one and many, where the page has a sentence for one. */
export function say(name, values = {}) {
  const sentence = (values.n === 1 && page.strings[`${name}One`]) || page.strings[name];
  return sentence.replace(/\{(\w+)\}/g, (_all, key) => values[key]);
}

/* "B, C and D" in the page's language. */
export function listed(words) {
  return new Intl.ListFormat(document.documentElement.lang, { type: "conjunction" }).format(words);
}

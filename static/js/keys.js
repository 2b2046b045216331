/* The keys page: a pressed key writes its own name. Tab and Shift move on as always. */

const MOVES = new Set(["Tab", "Shift", "Control", "Alt", "Meta", "Escape", "Process", "Dead", "Unidentified"]);

document.querySelector("[data-keys]").addEventListener("keydown", (event) => {
  const isField = event.target.matches("td input");
  if (!isField || event.isComposing || event.ctrlKey || event.metaKey || event.altKey || MOVES.has(event.key)) return;
  event.preventDefault();
  event.target.value = event.key === " " ? "" : event.key;
});

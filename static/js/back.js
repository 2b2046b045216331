/* The browser's Back closes what lies over the page, and leaves the page where nothing does.
 *
 * With the first that opens the history gets one entry more, which stays: closed otherwise it is a spare one, for the next
 * that opens, and Back goes on past it. (To go back from it at once would break off whatever the page was left for.)
 */

const OPEN = "dialog[open], .side-panel:not([hidden])";

let openedAt = ""; // the address; another is a place on the page that a link leads to

export function closeOnBack() {
  if (history.state) openedAt = location.href; // loaded anew
  new MutationObserver(follow).observe(document.body, { subtree: true, attributeFilter: ["open", "hidden"] });
  addEventListener("popstate", () => {
    if (!history.state && location.href === openedAt) goBack();
    follow();
  });
  follow();
}

const isAnyOpen = () => document.querySelector(OPEN) !== null;

function goBack() {
  if (!isAnyOpen()) return history.back();
  closeAll();
  setTimeout(scrollAsUsual, 200); // once the browser is there
}

function follow() {
  if (isAnyOpen() && !history.state?.isOver) {
    const state = { isOver: true };
    openedAt = location.href;
    if (history.state) return history.replaceState(state, "");
    history.scrollRestoration = "manual"; // where one has scrolled to meanwhile one stays
    history.pushState(state, "");
  } else if (!isAnyOpen() && history.state?.isOver) {
    history.replaceState({ isOver: false }, "");
    scrollAsUsual();
  }
}

function scrollAsUsual() {
  if (!isAnyOpen()) history.scrollRestoration = "auto";
}

function closeAll() {
  for (const one of document.querySelectorAll(OPEN)) {
    if (one.matches("dialog")) one.close();
    else one.querySelector("[data-close]").click();
  }
}

/* The browser's Back closes what lies over the page, and leaves the page where nothing does.
 *
 * While anything is open the history has one entry more; closed otherwise, that is gone back from.
 */

const OPEN = "dialog[open], .side-panel:not([hidden])";

let isGoingBack = false; // by itself, which takes a moment
let openedAt = ""; // the address; another is a place on the page that a link leads to

export function closeOnBack() {
  new MutationObserver(follow).observe(document.body, { subtree: true, attributeFilter: ["open", "hidden"] });
  addEventListener("popstate", () => {
    if (!isGoingBack && !history.state?.isOver && location.href === openedAt) closeAll();
    isGoingBack = false;
    follow();
    setTimeout(scrollAsUsual, 200); // once the browser has gone back
  });
  follow(); // loaded anew, the page has nothing open
}

function follow() {
  if (isGoingBack) return;
  const isOver = document.querySelector(OPEN) !== null;
  if (isOver === Boolean(history.state?.isOver)) return;
  if (isOver) {
    openedAt = location.href;
    history.scrollRestoration = "manual"; // where one has scrolled to meanwhile one stays
    history.pushState({ isOver }, "");
  } else {
    isGoingBack = true;
    history.back();
  }
}

function scrollAsUsual() {
  if (!history.state?.isOver) history.scrollRestoration = "auto";
}

function closeAll() {
  for (const one of document.querySelectorAll(OPEN)) {
    if (one.matches("dialog")) one.close();
    else one.querySelector("[data-close]").click();
  }
}

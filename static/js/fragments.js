/* HTML from the server, as nodes. */

/* The views answer htmx and this page with the same partial. */
export const AS_FRAGMENT = { headers: { "HX-Request": "true" } };

export function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return document.importNode(template.content, true);
}

/* HTML from the server, as nodes. */

/* The views answer htmx and this page with the same partial. */
export const AS_FRAGMENT = { headers: { "HX-Request": "true" } };

export function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return document.importNode(template.content, true);
}

/* What all completions of a form have alike comes once, in templates: put it into each, with the completion's own id. */
export function fillCards(form) {
  for (const template of form.querySelectorAll("template[data-into]")) {
    for (const card of form.querySelectorAll(".completion")) {
      const copy = document.importNode(template.content, true);
      for (const input of copy.querySelectorAll("input")) input.name = input.name.replace("each", card.dataset.id);
      card.querySelector(template.dataset.into).append(copy);
    }
    template.remove();
  }
}

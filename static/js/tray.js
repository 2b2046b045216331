/* The row of places under a comparison: drag a letter onto a place. Two on one place are a tie.
 *
 * For pointers alone, and hidden from screen readers: the radios of each completion do the same.
 */

export class Tray {
  constructor(comparison, element) {
    this.comparison = comparison;
    this.element = element;
    this.places = Array.from({ length: comparison.k + 1 }, (_none, rank) => this.#makePlace(rank));
    this.chips = comparison.letters.map((letter, index) => this.#makeChip(letter, index));
    element.replaceChildren(...this.places);
  }

  draw() {
    const ranks = this.comparison.ranks;
    this.chips.forEach((chip, index) => this.places[ranks[index] ?? 0].append(chip));
    this.element.classList.toggle("is-off", this.comparison.allBad);
  }

  /* The one of rank 0 is for the letters that have none. */
  #makePlace(rank) {
    const place = span(rank ? "tray-place" : "tray-place is-waiting");
    if (rank) place.append(span("tray-number", rank));
    return place;
  }

  #makeChip(letter, index) {
    const chip = span("tray-chip", letter);
    chip.addEventListener("pointerdown", (event) => this.#drag(event, chip, index));
    return chip;
  }

  #drag(down, chip, index) {
    down.preventDefault();
    chip.setPointerCapture(down.pointerId);
    chip.classList.add("is-dragged");
    let target = -1;
    const move = (event) => {
      chip.style.translate = `${event.clientX - down.clientX}px ${event.clientY - down.clientY}px`;
      const under = document.elementsFromPoint(event.clientX, event.clientY);
      target = this.places.findIndex((place) => under.includes(place));
      this.places.forEach((place, at) => place.classList.toggle("is-target", at === target));
    };
    const end = (event) => {
      chip.removeEventListener("pointermove", move);
      chip.classList.remove("is-dragged");
      chip.style.translate = "";
      this.places.forEach((place) => place.classList.remove("is-target"));
      if (event.type !== "pointerup") return;
      if (target < 0) this.comparison.activate(index);
      else this.comparison.place(index, target || null);
    };
    chip.addEventListener("pointermove", move);
    chip.addEventListener("pointerup", end, { once: true });
    chip.addEventListener("pointercancel", end, { once: true });
  }
}

function span(className, textContent = "") {
  return Object.assign(document.createElement("span"), { className, textContent });
}

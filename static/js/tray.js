/* The row of places under a comparison: drag a letter onto a place. Two on one place are a tie.
 *
 * For pointers alone, and hidden from screen readers: the radios of each completion do the same.
 */

export class Tray {
  constructor(comparison, element) {
    this.comparison = comparison;
    this.element = element;
    this.places = [null, ...Array(comparison.k).keys()].map((n) => this.#makePlace(n === null ? null : n + 1));
    this.chips = comparison.letters.map((letter, index) => this.#makeChip(letter, index));
    element.replaceChildren(...this.places);
  }

  draw() {
    const ranks = this.comparison.ranks;
    this.chips.forEach((chip, index) => this.places[ranks[index] ?? 0].append(chip));
    this.element.classList.toggle("is-off", this.comparison.allBad);
  }

  #makePlace(rank) {
    const place = document.createElement("span");
    place.className = rank === null ? "tray-place is-waiting" : "tray-place";
    if (rank !== null) {
      const number = document.createElement("span");
      number.className = "tray-number";
      number.textContent = rank;
      place.append(number);
    }
    return place;
  }

  #makeChip(letter, index) {
    const chip = document.createElement("span");
    chip.className = "tray-chip";
    chip.textContent = letter;
    chip.addEventListener("pointerdown", (event) => this.#drag(event, chip, index));
    return chip;
  }

  #drag(down, chip, index) {
    down.preventDefault();
    chip.setPointerCapture(down.pointerId);
    chip.classList.add("is-dragged");
    let target = null;
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
      const hasMoved = target !== null && target >= 0;
      if (event.type === "pointerup" && hasMoved) this.comparison.place(index, target === 0 ? null : target);
      else if (event.type === "pointerup") this.comparison.activate(index);
    };
    chip.addEventListener("pointermove", move);
    chip.addEventListener("pointerup", end, { once: true });
    chip.addEventListener("pointercancel", end, { once: true });
  }
}

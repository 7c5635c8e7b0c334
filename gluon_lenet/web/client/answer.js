// A net's outputs -> its answer in large, the image it saw, and its probabilities as bars.
import { make } from "./dom.js";
import { Maps } from "./maps.js";
import { argmax } from "./numbers.js";
import { percent, t } from "./texts.js";

/** One net's answer; `element` stands in the page. */
export class Answer {
  /** @param {{classes: string[], side: number}} net  its classes, the side of the image that it saw in pixels */
  constructor({ classes, side }) {
    this.seen = new Maps([1, side, side], { label: t("seen") });
    this.big = make("output", { class: "big", ariaLive: "off" });
    this.sure = make("div", { class: "sure" });
    this.bars = classes.map((name) => {
      const bar = make("span", { class: "bar" });
      const text = make("span", { class: "share" });
      const row = make("li", {}, make("span", { class: "class" }, name), make("span", { class: "track" }, bar), text);
      return { bar, text, row };
    });
    const list = make("ol", { class: "bars", ariaLabel: t("probabilities") }, ...this.bars.map(({ row }) => row));
    list.style.setProperty("--names", `${Math.max(...classes.map(widthOf))}em`);
    const seen = make("figure", { class: "seen" }, this.seen.element, make("figcaption", {}, t("seen")));
    const head = make("div", { class: "verdict" }, make("div", {}, this.big, this.sure), seen);
    this.element = make("div", { class: "answer" }, head, list);
    this.classes = classes;
  }

  /**
   * @param {?Uint8Array} image  what the net saw; null if there is no drawing
   * @param {?number[]} probabilities  null if there are none
   * @param {string} why  the sentence in place of an answer
   */
  show(image, probabilities, why = "") {
    this.seen.draw(image || new Uint8Array(this.seen.shape[1] ** 2), { least: 0, most: 255, signed: false, ink: true });
    const best = probabilities ? argmax(probabilities) : -1;
    this.big.textContent = best >= 0 ? this.classes[best] : "–";
    this.big.classList.toggle("word", best >= 0 && widthOf(this.classes[best]) > 1.5);
    this.sure.textContent = best >= 0 ? percent(probabilities[best]) : why;
    this.sure.classList.toggle("why", best < 0);
    this.bars.forEach(({ bar, text, row }, i) => {
      const share = probabilities ? probabilities[i] : 0;
      bar.style.transform = `scaleX(${share})`;
      text.textContent = probabilities ? percent(share) : "";
      row.classList.toggle("best", i === best);
    });
    return best;
  }
}

/** About how wide a name is, in the font's size: a Chinese character is as wide as high, others half. */
const widthOf = (name) => [...name].reduce((sum, letter) => sum + (letter > "\u2e80" ? 1 : 0.58), 0.2);

// A widget's model in a notebook -> a pad whose drawing the kernel's net answers: bars, and every layer's maps.
import { Answer } from "./answer.js";
import { button, make } from "./dom.js";
import { drawScale, rangeOf } from "./colours.js";
import { FORMS } from "./fit.js";
import { BLANK, PictureError } from "./ink.js";
import { Maps } from "./maps.js";
import { softmax } from "./numbers.js";
import { PAD, Pad } from "./pad.js";
import { picture } from "./resample.js";
import { show, t, useTexts } from "./texts.js";

const SIDE = 28;

/** What anywidget calls for each view of the widget. */
export function render({ model, el }) {
  useTexts(model.get("texts"));
  const root = el.attachShadow({ mode: "open" }); // so that the notebook's styles and ours do not meet
  root.append(make("style", {}, model.get("css")));
  const view = new View(model);
  root.append(view.element);
  model.on("change:number", () => view.show());
}

class View {
  constructor(model) {
    Object.assign(this, { model, isWaiting: false, isDue: false });
    this.pad = new Pad({ onchange: () => this.send(), label: t("padLabel") });
    this.answer = new Answer({ classes: model.get("classes"), side: SIDE });
    this.hint = make("p", { id: "hint", ariaHidden: "true" }, t("drawHere"));
    const clear = button(t("clear"), () => this.pad.clear(), { class: "main" });
    const undo = button(t("undo"), () => this.pad.undo());
    const draw = make("div", { class: "draw" }, make("div", { class: "paper" }, this.pad.element, this.hint), make("div", { class: "tools" }, clear, undo));
    this.overview = make("div", { class: "overview" });
    this.element = make("div", { class: "widget" }, make("div", { class: "pair" }, draw, make("div", { class: "card" }, this.answer.element)), this.overview);
    this.show();
  }

  /** The drawing in the data set's form, to the kernel; one at a time, the newest if several are waiting. */
  send() {
    this.hint.hidden = !this.pad.isEmpty;
    this.isDue = true;
    if (this.isWaiting) return;
    this.isDue = false;
    const image = this.seen();
    if (!image) {
      this.answer.show(null, null, t("drawSomething"));
      return;
    }
    this.isWaiting = true;
    this.model.set("image", new DataView(image.buffer));
    this.model.set("asked", this.model.get("asked") + 1);
    this.model.save_changes();
  }

  seen() {
    try {
      return FORMS[this.model.get("form")](picture(new Float32Array(this.pad.ink), PAD, PAD));
    } catch (error) {
      if (error instanceof PictureError && error.message === BLANK) return null;
      throw error;
    }
  }

  /** What the kernel has computed: every layer's values, the last of which are the logits. */
  show() {
    this.isWaiting = false;
    const bytes = this.model.get("values");
    const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    const layers = this.model.get("layers");
    let start = 0;
    const parts = layers.map(({ shape }) => values.subarray(start, (start += shape.reduce((a, b) => a * b))));
    if (this.overview.childElementCount !== layers.length) this.build(layers);
    parts.forEach((part, i) => this.drawLayer(this.columns[i], part, i === 0));
    const image = this.model.get("image");
    const probabilities = softmax(parts[parts.length - 1]);
    this.answer.show(new Uint8Array(image.buffer, image.byteOffset, image.byteLength), probabilities, probabilities ? "" : t("notFinite"));
    if (this.isDue) this.send();
  }

  build(layers) {
    this.columns = layers.map(({ name, shape }, i) => {
      const [scale, least, most] = [make("canvas", { class: "scale" }), make("span"), make("span")];
      const isLast = i === layers.length - 1;
      const maps = new Maps(shape, { label: name, ...(isLast ? { columns: 1 } : {}) }); // beside its classes' names
      const head = make("div", { class: "layerhead" }, make("span", {}, name));
      const element = make("div", { class: `column ${shape[1] * shape[2] === 1 ? "thin" : ""}` }, head, isLast ? this.named(maps) : maps.element, make("div", { class: "legend" }, least, scale, most));
      return { maps, scale, least, most, element };
    });
    this.overview.replaceChildren(...this.columns.map(({ element }) => element));
  }

  /** The last layer's units beside their classes. */
  named(maps) {
    const names = this.model.get("classes").map((name) => make("span", {}, name));
    return make("div", { class: "named" }, maps.element, make("div", { class: "names", ariaHidden: "true" }, ...names));
  }

  drawLayer({ maps, scale, least, most }, values, isInput) {
    const range = isInput ? { least: Math.min(...values), most: Math.max(...values), signed: false, ink: true } : rangeOf(values);
    maps.draw(values, range);
    drawScale(scale, range);
    [least.textContent, most.textContent] = [show(range.least), show(range.most)];
  }
}
